"""Figure E.1 of Ramzi et al. 2022."""

from shine_exp.figures.comparison import Comparison
from shine_exp.figures.plots.fig1 import Fig1


class FigE1(Comparison):
    name = "figE1"
    claim = "as fig1, with random search and HOAG with a limited backward pass"
    methods = (*Fig1.methods, "cg_limited", "random")
    problem = Fig1.problem
    data = Fig1.data

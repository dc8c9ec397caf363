"""Figure 1 for another inner problem: non-linear least squares (Ramzi et al. 2022, appendix E)."""

from shine_exp.figures.comparison import Comparison
from shine_exp.figures.plots.fig1 import Fig1


class FigNLS(Comparison):
    name = "figNLS"
    claim = "losses against time, non-linear least squares on 20newsgroups"
    methods = Fig1.methods
    problem = "nls"
    data = ("20news",)

"""Figure 1 of Ramzi et al. 2022."""

from shine_exp.figures.comparison import Comparison


class Fig1(Comparison):
    name = "fig1"
    claim = "losses against time, logistic regression on 20newsgroups and real-sim"
    methods = ("shine", "refine", "cg", "jf", "grid")
    problem = "logreg"
    data = ("20news", "real_sim")

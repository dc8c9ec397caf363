"""Figure 2, left, of Ramzi et al. 2022."""

from shine_exp.figures.comparison import Comparison


class Fig2Left(Comparison):
    name = "fig2-left"
    claim = "HOAG, SHINE and SHINE-OPA against time on 20newsgroups"
    methods = ("cg", "shine", "opa")
    problem = "logreg"
    data = ("20news",)
    band = (0.25, 0.75)

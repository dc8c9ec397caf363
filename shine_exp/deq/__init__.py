"""Deep equilibrium networks: a layer z* = f(z*, x) for any cell f."""

from shine_exp.deq.advice import CellWarning, ConvergenceWarning
from shine_exp.deq.captured import Captured, Uncapturable
from shine_exp.deq.layer import DEQ
from shine_exp.deq.report import Report
from shine_exp.deq.unroll import unroll

__all__ = [
    "DEQ",
    "Captured",
    "CellWarning",
    "ConvergenceWarning",
    "Report",
    "Uncapturable",
    "unroll",
]

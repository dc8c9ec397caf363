"""Deep equilibrium networks: a layer for any cell, and the multiscale network of the paper."""

from shine_exp.deq.advice import CellWarning, ConvergenceWarning
from shine_exp.deq.layer import DEQ
from shine_exp.deq.report import Report
from shine_exp.deq.unroll import unroll

__all__ = ["DEQ", "CellWarning", "ConvergenceWarning", "Report", "unroll"]

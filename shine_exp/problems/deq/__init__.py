"""Deep equilibrium networks: a layer for any cell, and the multiscale network of the paper."""

from shine_exp.problems.deq.layer import DEQ, Report
from shine_exp.problems.deq.unroll import unroll

__all__ = ["DEQ", "Report", "unroll"]

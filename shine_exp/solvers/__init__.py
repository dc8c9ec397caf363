"""Solvers of the inner problem, and the inverse estimate that each leaves behind."""

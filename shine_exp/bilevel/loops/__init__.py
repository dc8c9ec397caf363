"""Loops over α: descent along hypergradients, and black-box searches."""

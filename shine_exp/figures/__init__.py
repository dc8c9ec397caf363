"""Figures and the table, made from traces on disk alone."""

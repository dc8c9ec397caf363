"""Data: what a data set is, how it is split and scaled, and in `sets/` where it comes from.

Imports go one way: errors, durable ← io ← here ← sets.
"""

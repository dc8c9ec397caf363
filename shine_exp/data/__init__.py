"""Data sets: each module gives functions that return a `Dataset`, or `Images`, or read one from a
file.
"""

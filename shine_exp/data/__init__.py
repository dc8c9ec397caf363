"""Data sets: each module gives functions that return a `Dataset`, or read one from a file."""

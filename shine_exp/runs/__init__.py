"""Runs: from a command to a folder with a trace, resumed where it was left, and read again."""

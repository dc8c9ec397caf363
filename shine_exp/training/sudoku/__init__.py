"""Sudoku with an equilibrium layer whose cell is one block of attention."""

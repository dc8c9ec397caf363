"""What turns a Sudoku into another one with as many solutions."""

import torch
from torch import Tensor

from shine_exp.training.sudoku.puzzles import Puzzles


def at_random(puzzles: Puzzles, box: int, generator: torch.Generator) -> Puzzles:
    """Each puzzle with its digits relabelled, and the rows of each band, the bands, the columns of
    each stack and the stacks permuted; all by permutations of its own.
    """
    batch, n = len(puzzles), box**2
    labels = torch.zeros(batch, n + 1, dtype=torch.int64)
    labels[:, 1:] = _permutations(batch, n, generator) + 1
    rows, columns = (_lines(batch, box, generator) for _ in range(2))
    cells = (rows[:, :, None] * n + columns[:, None, :]).flatten(1)

    def moved(grid: Tensor) -> Tensor:
        device = grid.device
        return labels.to(device).gather(1, grid.gather(1, cells.to(device)))

    return Puzzles(moved(puzzles.clues), moved(puzzles.solutions))


def _lines(batch: int, box: int, generator: torch.Generator) -> Tensor:
    """Permutations (batch, b²) of rows, or columns, that keep those of a band together."""
    bands = _permutations(batch, box, generator)
    within = torch.stack([_permutations(batch, box, generator) for _ in range(box)], dim=1)
    return (bands[:, :, None] * box + within).flatten(1)


def _permutations(batch: int, n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(batch, n, generator=generator).argsort(dim=1)

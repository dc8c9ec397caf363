"""Puzzles with one solution each, drawn from a seed; those for training and for test share no grid.

Grids that are equal up to relabelling, a permutation of the digits, count as one class. Of the
twelve classes of 4 × 4 grids eight are trained on; for 9 × 9 each puzzle has a class of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from shine_exp.randomness import generator
from shine_exp.training.sudoku.grids import Grid, classes, draw_class, has_one_solution

TRAIN_CLASSES = 8
SPLIT, TRAIN, TEST = range(3)  # the streams of random numbers


@dataclass(frozen=True)
class Puzzles:
    """`clues` and `solutions` (n, b⁴), int64: digits from 1 to b², and 0 for an empty cell."""

    clues: Tensor
    solutions: Tensor

    def __len__(self) -> int:
        return len(self.clues)

    def __getitem__(self, chosen: Tensor | slice) -> "Puzzles":
        return Puzzles(self.clues[chosen], self.solutions[chosen])

    def criterion(self) -> Callable[[Tensor], Tensor]:
        """The mean cross-entropy of the digits in empty cells, of logits (n, b⁴, b²)."""
        empty = self.clues == 0
        digits = self.solutions[empty] - 1

        def of(logits: Tensor) -> Tensor:
            return cross_entropy(logits[empty], digits)

        return of

    def are_right(self, logits: Tensor) -> Tensor:
        """Which grids have the right digit in every empty cell, (n,), bool."""
        right = logits.argmax(-1) + 1 == self.solutions
        return (right | (self.clues > 0)).all(dim=1)

    def to(self, device: str) -> "Puzzles":
        return Puzzles(self.clues.to(device), self.solutions.to(device))


def draw_puzzles(
    box: int, sizes: tuple[int, int], n_clues: tuple[int, int], seed: int
) -> tuple[Puzzles, Puzzles]:
    """As many puzzles for training and for test as `sizes` says.

    The number of clues is uniform between the two numbers of `n_clues`, but larger where no
    further clue of a puzzle could be taken away.
    """
    drawn = generator(seed, SPLIT)
    if box == 2:
        known = classes(box)
        known = [known[i] for i in torch.randperm(len(known), generator=drawn).tolist()]
        grids = known[:TRAIN_CLASSES], known[TRAIN_CLASSES:]
    else:
        distinct: dict[Grid, None] = {}
        while len(distinct) < sum(sizes):
            distinct[draw_class(box, drawn)] = None
        grids = list(distinct)[: sizes[0]], list(distinct)[sizes[0] :]
    train, test = (
        _draw(box, grids[i], sizes[i], n_clues, generator(seed, stream))
        for i, stream in enumerate((TRAIN, TEST))
    )
    return train, test


def _draw(
    box: int,
    grids: Sequence[Grid],
    n: int,
    n_clues: tuple[int, int],
    drawn: torch.Generator,
) -> Puzzles:
    """n puzzles of these grids in turn, each relabelled at random."""
    low, high = n_clues
    clues, solutions = [], []
    targets = torch.randint(low, high + 1, (n,), generator=drawn).tolist()
    for i, target in enumerate(targets):
        labels = (torch.randperm(box**2, generator=drawn) + 1).tolist()
        grid = tuple(labels[digit - 1] for digit in grids[i % len(grids)])
        order = torch.randperm(len(grid), generator=drawn).tolist()
        clues.append(_puzzle(grid, box, target, order))
        solutions.append(grid)
    return Puzzles(torch.tensor(clues), torch.tensor(solutions))


def _puzzle(grid: Grid, box: int, target: int, order: Sequence[int]) -> Grid:
    """The grid without the cells that can be emptied, in this order, until `target` are left."""
    puzzle = list(grid)
    left = len(grid)
    for cell in order:
        if left == target:
            break
        puzzle[cell] = 0
        if has_one_solution(tuple(puzzle), box):
            left -= 1
        else:
            puzzle[cell] = grid[cell]
    return tuple(puzzle)

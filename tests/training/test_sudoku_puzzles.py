"""Sudokus: complete grids, puzzles with one solution, and what may be permuted in them."""

from collections.abc import Iterator
from itertools import permutations, product

import pytest
import torch
from torch import Tensor

from shine_exp.randomness import generator
from shine_exp.training.sudoku.grids import classes, draw_class, has_one_solution, solutions
from shine_exp.training.sudoku.puzzles import Puzzles, draw_puzzles
from shine_exp.training.sudoku.symmetries import at_random


def units(grid: Tensor, box: int) -> Iterator[Tensor]:
    """The rows, columns and boxes of a grid (b⁴,)."""
    square = grid.view(box**2, box**2)
    yield from square
    yield from square.T
    for i, j in product(range(box), range(box)):
        yield square[box * i : box * (i + 1), box * j : box * (j + 1)].flatten()


def assert_complete(grids: Tensor, box: int) -> None:
    digits = torch.arange(1, box**2 + 1)
    for grid in grids:
        assert all(torch.equal(unit.sort().values, digits) for unit in units(grid, box))


def relabelled_first_row(grid: Tensor, n: int) -> tuple[int, ...]:
    """The grid of its class whose first row is 1, 2, …, n."""
    labels = {int(digit): i for i, digit in enumerate(grid[:n], 1)}
    return tuple(labels[int(digit)] for digit in grid)


def test_twelve_classes_are_all_4x4_grids_up_to_relabelling() -> None:
    """Against all products of permutations: 288 grids, 24 to a class."""
    rows = list(permutations(range(1, 5)))
    found = [
        (*a, *b, *c, *d)
        for a, b, c, d in product(rows, repeat=4)
        if all(len(set(column)) == 4 for column in zip(a, b, c, d, strict=True))
        and all(len({*x[:2], *y[:2]}) == 4 for x, y in ((a, b), (c, d)))
    ]
    assert len(found) == 288
    assert set(classes(2)) == {grid for grid in found if grid[:4] == (1, 2, 3, 4)}
    assert len(classes(2)) == 12


def test_solutions_of_a_puzzle_are_all_of_them() -> None:
    puzzle = (1, 2, 0, 0, *(0,) * 12)
    among = [
        grid
        for first in ((1, 2, 3, 4), (1, 2, 4, 3))
        for grid in solutions((*first, *(0,) * 12), 2)
    ]
    assert sorted(solutions(puzzle, 2)) == sorted(among)
    assert not has_one_solution(puzzle, 2)
    assert not has_one_solution((1, 1, *(0,) * 14), 2)  # it has none


@pytest.mark.parametrize(("box", "clues"), [(2, (6, 10)), (3, (35, 45))])
def test_puzzles_have_one_solution_and_their_number_of_clues(box: int, clues: tuple) -> None:
    for puzzles in draw_puzzles(box, (12, 6), clues, seed=1):
        assert_complete(puzzles.solutions, box)
        counts = (puzzles.clues > 0).sum(dim=1)
        assert clues[0] <= int(counts.min()) <= int(counts.max()) <= clues[1]
        for puzzle, solution in zip(
            puzzles.clues.tolist(), puzzles.solutions.tolist(), strict=True
        ):
            assert list(solutions(tuple(puzzle), box)) == [tuple(solution)]


def test_test_puzzles_are_of_classes_that_are_not_trained_on() -> None:
    train, test = draw_puzzles(2, (100, 100), (6, 10), seed=0)
    first, second = (
        {relabelled_first_row(grid, 4) for grid in puzzles.solutions} for puzzles in (train, test)
    )
    assert (len(first), len(second), first & second) == (8, 4, set())


def test_puzzles_follow_from_the_seed() -> None:
    one, again, other = (draw_puzzles(2, (20, 5), (6, 10), seed)[0].clues for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("box", [2, 3])
def test_permuted_puzzles_are_puzzles(box: int) -> None:
    grids = torch.tensor([draw_class(box, generator(3, i)) for i in range(5)])
    clues = torch.where(torch.rand(grids.shape, generator=generator(4)) < 0.5, grids, 0)
    moved = at_random(Puzzles(clues, grids), box, generator(5))
    assert_complete(moved.solutions, box)
    assert not torch.equal(moved.solutions, grids)
    given = moved.clues > 0
    assert torch.equal(given.sum(1), (clues > 0).sum(1))
    assert torch.equal(moved.clues[given], moved.solutions[given])


def test_criterion_and_right_grids_look_at_empty_cells_alone() -> None:
    _, puzzles = draw_puzzles(2, (1, 2), (6, 10), seed=0)
    logits = 5.0 * torch.nn.functional.one_hot(puzzles.solutions - 1, 4)
    logits[puzzles.clues > 0] *= -1  # wrong where the digit is given
    assert puzzles.are_right(logits).tolist() == [True, True]
    expected = torch.log(1 + 3 * torch.exp(torch.tensor(-5.0)))
    torch.testing.assert_close(puzzles.criterion()(logits), expected)
    cell = int((puzzles.clues[1] == 0).nonzero()[0])
    logits[1, cell] *= -1
    assert puzzles.are_right(logits).tolist() == [True, False]

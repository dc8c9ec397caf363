"""Sudoku grids of boxes of b × b cells, b = `box`: the solutions of a puzzle, by search."""

from collections.abc import Iterator
from functools import cache

import torch

Grid = tuple[int, ...]  # b⁴ cells, row by row: a digit from 1 to b², or 0 where a cell is empty


def solutions(puzzle: Grid, box: int, generator: torch.Generator | None = None) -> Iterator[Grid]:
    """All complete grids that agree with a puzzle, in a random order where there is a generator.

    Depth first; the cell with the fewest candidates is filled first.
    """
    units = units_of(box)
    used = [0] * (3 * box**2)  # the digits of each unit, as bits
    for cell, digit in enumerate(puzzle):
        if digit and any(used[unit] >> digit & 1 for unit in units[cell]):
            return
        _flip(used, units[cell], digit)
    empty = {cell for cell, digit in enumerate(puzzle) if not digit}
    yield from _filled(list(puzzle), used, empty, box, generator)


def has_one_solution(puzzle: Grid, box: int) -> bool:
    found = solutions(puzzle, box)
    return next(found, None) is not None and next(found, None) is None


def classes(box: int) -> list[Grid]:
    """The complete grids whose first row is 1, 2, …, b²: one of each class up to relabelling.

    There are 12 for b = 2; for b = 3 too many to be listed.
    """
    return list(solutions(_first_row(box), box))


def draw_class(box: int, generator: torch.Generator) -> Grid:
    """One of them at random."""
    return next(solutions(_first_row(box), box, generator))


@cache
def units_of(box: int) -> tuple[tuple[int, int, int], ...]:
    """The row, the column and the box of each cell, of 3 b² units."""
    n = box**2
    places = [divmod(cell, n) for cell in range(n * n)]
    return tuple(
        (row, n + column, 2 * n + row // box * box + column // box) for row, column in places
    )


def _first_row(box: int) -> Grid:
    n = box**2
    return (*range(1, n + 1), *(0,) * (n * n - n))


def _filled(
    grid: list[int], used: list[int], empty: set[int], box: int, generator: torch.Generator | None
) -> Iterator[Grid]:
    if not empty:
        yield tuple(grid)
        return
    units = units_of(box)

    def taken(cell: int) -> int:
        row, column, square = units[cell]
        return used[row] | used[column] | used[square]

    cell = max(empty, key=lambda one: taken(one).bit_count())
    digits = [d for d in range(1, box**2 + 1) if not taken(cell) >> d & 1]
    if generator is not None:
        digits = [digits[i] for i in torch.randperm(len(digits), generator=generator).tolist()]
    empty.remove(cell)
    for digit in digits:
        grid[cell] = digit
        _flip(used, units[cell], digit)
        yield from _filled(grid, used, empty, box, generator)
        _flip(used, units[cell], digit)
    grid[cell] = 0
    empty.add(cell)


def _flip(used: list[int], units: tuple[int, int, int], digit: int) -> None:
    for unit in units:
        used[unit] ^= 1 << digit

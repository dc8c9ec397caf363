"""The table of Sudoku by every backward pass, each compared with SHINE refined by three steps."""

from collections.abc import Sequence

import pandas as pd

from shine_exp.figures.drawing import Drawing, Table, how_to_make
from shine_exp.figures.plot import Options, Plot
from shine_exp.figures.sudokus import by_backward_pass, is_sudoku
from shine_exp.figures.summaries import NOTHING, median_columns, median_range_or_single
from shine_exp.runs.run import Run

REFERENCE = "refine 3"
QUANTITIES = {
    "whole_grids_longer": "whole grids (%)",
    "whole_grids": "with the steps of training",
    "gradient_cosine": "gradient's cosine",
    "spectral_radius": "spectral radius",
    "products": "products",
    "backward_ms": "backward (ms)",
}
NOTE = (
    "Of runs that are done: median [lowest, highest] over seeds. Whole grids: the share of test "
    "puzzles that are right in every cell after the last epoch, with more forward steps than in "
    "training, and with as many. The gradient's cosine with the exact one, and the milliseconds of "
    f"a backward pass, are medians over the epochs of each run. {REFERENCE} above: on how many of "
    f"the seeds that both have SHINE refined by three steps ends with more whole grids, and the "
    "probability of so many or more, if either were above with probability ½."
)


class SudokuTable(Plot):
    """A row for each network and backward pass."""

    name = "table-sudoku"
    claim = "Sudoku by every backward pass, seed by seed against refined SHINE"

    def reads(self, run: Run) -> bool:
        return is_sudoku(run)

    def draw(self, runs: Sequence[Run], options: Options) -> Drawing:
        networks = by_backward_pass(filter(self.reads, runs))
        if not networks:
            missing = f"{self.name}: no finished runs with problem=sudoku"
            return Drawing(self.name, None, (f"{missing}; {how_to_make('fig-sudoku')}",))
        header = ("network", "backward pass", "seeds", *QUANTITIES.values(), f"{REFERENCE} above")
        lines, numbers = [header], []
        for title, passes in networks.items():
            for name, frame in passes.items():
                wins, n = wins_of(passes.get(REFERENCE), frame) if name != REFERENCE else (0, 0)
                cells = [median_range_or_single(frame[column]) for column in QUANTITIES]
                above = f"{wins} of {n}, p = {sign_test(wins, n):.2g}" if n else NOTHING
                lines.append((title, name, str(len(frame)), *cells, above))
                row = {"network": title, "backward_pass": name, "seeds": len(frame)}
                compared = {"reference_above": wins, "compared": n, "p": sign_test(wins, n)}
                numbers.append(row | median_columns(frame, QUANTITIES) | compared)
        return Drawing(self.name, None, table=Table(tuple(lines), NOTE, pd.DataFrame(numbers)))


def wins_of(reference: pd.DataFrame | None, other: pd.DataFrame) -> tuple[int, int]:
    """On how many of their common seeds the reference has more whole grids, and their number.

    Ties are in neither.
    """
    if reference is None:
        return 0, 0
    both = reference.merge(other, on="seed")
    difference = both["whole_grids_longer_x"] - both["whole_grids_longer_y"]
    return int((difference > 0).sum()), int((difference != 0).sum())


def sign_test(wins: int, n: int) -> float:
    """P(at least `wins` heads in n throws of a fair coin)."""
    from scipy.stats import binom

    return float(binom.sf(wins - 1, n, 0.5))

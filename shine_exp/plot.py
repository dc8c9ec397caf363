"""shine-plot: every figure for which there are traces, and what is missing for the others."""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from shine_exp.errors import UserError
from shine_exp.figures.convergence import COMPARISONS, X_LABELS, draw_comparison, draw_curves
from shine_exp.figures.drawing import Drawing
from shine_exp.figures.inversion import NAME as INVERSION_FIGURE
from shine_exp.figures.inversion import draw_inversion
from shine_exp.figures.read import is_search, read_runs
from shine_exp.figures.runs import place, unfinished_lines
from shine_exp.figures.style import house_style, save
from shine_exp.figures.table import as_markdown, as_text, make_table, write_csv
from shine_exp.figures.theorem import NAME as THEOREM_FIGURE
from shine_exp.figures.theorem import draw_theorem
from shine_exp.trace import Run

DESCRIPTION = """\
Draws the paper's figures and a table from the runs in a results folder; computes nothing else, so it is quick and can
be repeated while a sweep goes on. A figure without runs is not drawn: one line says which command makes them."""

EPILOG = """\
figures:
  fig1        held-out loss against time, logistic regression on 20news and real_sim
  figE1       fig1 with HOAG's limited backward pass and random search
  figNLS      fig1 for non-linear least squares on 20news
  fig2-left   HOAG, SHINE and SHINE-OPA on 20news
  fig2-right  quality of the inverse estimates
  fig-theorem error of the hypergradient against the inner tolerance
  curves      curves-PROBLEM-DATA for each problem and data there is: all methods and variants found

The first four use runs with default settings only, and the synthetic_ stand-ins where the real data have no runs.

examples:
  shine-run problem=logreg method=shine && shine-plot results/
  shine-run -m experiment=fig1 && shine-plot results/ --figure fig1 --figure figE1
  shine-plot results/ --x products --out figures/"""


def main() -> None:
    """Entry point; a `UserError` is one line on stderr and exit code 2."""
    try:
        plot(_parse(sys.argv[1:]))
    except UserError as error:
        print(f"shine-plot: {error}", file=sys.stderr)
        sys.exit(2)


def plot(options: argparse.Namespace) -> None:
    """Write the table and the figures, and print what was written and what is missing."""
    runs = read_runs(options.results)
    searches = [run for run in runs if is_search(run)]
    figures = _chosen(_figures(runs, searches, options.x), options.figure)
    out = options.out or options.results / "figures"
    table = make_table(searches)
    try:
        out.mkdir(parents=True, exist_ok=True)
        if table:
            write_csv(table, out / "table.csv")
            (out / "table.md").write_text(as_markdown(table))
        with house_style():
            drawings = [draw() for draw in figures.values()]
            written = [path for d in drawings if d.figure is not None for path in save(d.figure, out, d.name)]
    except OSError as error:
        raise UserError(
            f"cannot write into {out}: {error.strerror or error}; choose another folder: --out DIR"
        ) from error
    lines = [as_text(table), ""] if table else []
    lines += [*unfinished_lines(runs), *(note for drawing in drawings for note in drawing.notes)]
    print("\n".join([*lines, *(f"wrote {path}" for path in written)]))


def _figures(runs: Sequence[Run], searches: Sequence[Run], x: str) -> dict[str, Callable[[], Drawing]]:
    named = {comparison.name: partial(draw_comparison, comparison, searches, x) for comparison in COMPARISONS}
    studies = {INVERSION_FIGURE: partial(draw_inversion, runs), THEOREM_FIGURE: partial(draw_theorem, runs)}
    places = sorted({place(run) for run in searches if len(run.trace)})
    curves = {f"curves-{where}": partial(draw_curves, where, searches, x) for where in places}
    return {**named, **studies, **curves}


def _chosen(figures: dict[str, Callable[[], Drawing]], names: Sequence[str]) -> dict[str, Callable[[], Drawing]]:
    for name in names:
        if name not in figures and name != "curves":
            raise UserError(f"no such figure: {name}; there are: {', '.join([*figures, 'curves'])}")
    if not names:
        return figures
    wanted = {*names, *(name for name in figures if name.startswith("curves-") and "curves" in names)}
    return {name: draw for name, draw in figures.items() if name in wanted}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see shine-plot --help")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = _Parser("shine-plot", description=DESCRIPTION, epilog=EPILOG, formatter_class=formatter)
    parser.add_argument("results", type=Path, help="the folder that shine-run wrote, searched at any depth")
    parser.add_argument("--figure", action="append", default=[], metavar="NAME", help="draw this one only (repeatable)")
    parser.add_argument("--x", choices=list(X_LABELS), default="time", help="cost on the x axis (default: time)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: RESULTS/figures)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()

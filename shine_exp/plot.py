"""shine-plot: every figure for which there are traces, and what is missing for the others."""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from shine_exp.errors import UserError
from shine_exp.figures.backward_time import NAME as BACKWARD_TIME_FIGURE
from shine_exp.figures.backward_time import draw_backward_time
from shine_exp.figures.contractivity import NAME as CONTRACTIVITY_TABLE
from shine_exp.figures.contractivity import draw_contractivity
from shine_exp.figures.convergence import COMPARISONS, X_LABELS, draw_comparison, draw_curves
from shine_exp.figures.drawing import Drawing
from shine_exp.figures.groups import NAME as GROUPS_FIGURE
from shine_exp.figures.groups import draw_groups
from shine_exp.figures.inversion import NAME as INVERSION_FIGURE
from shine_exp.figures.inversion import draw_inversion
from shine_exp.figures.network_curves import draw_network_curves
from shine_exp.figures.network_inversion import NAME as NETWORK_INVERSION_FIGURE
from shine_exp.figures.network_inversion import draw_network_inversion
from shine_exp.figures.network_table import NAME as NETWORK_TABLE
from shine_exp.figures.network_table import draw_network_table
from shine_exp.figures.networks import is_training
from shine_exp.figures.read import is_search, read_runs
from shine_exp.figures.runs import place, unfinished_lines
from shine_exp.figures.style import house_style, save
from shine_exp.figures.table import draw_table
from shine_exp.figures.theorem import NAME as THEOREM_FIGURE
from shine_exp.figures.theorem import draw_theorem
from shine_exp.signals import silence_stdout
from shine_exp.trace import Run

DESCRIPTION = """\
Draws the paper's figures and tables from the runs in a results folder; computes nothing else, so it is quick and can
be repeated while a sweep goes on. A figure without runs is not drawn: one line says which command makes them."""

EPILOG = """\
figures:
  fig1        held-out loss against time, logistic regression on 20news and real_sim
  figE1       fig1 with HOAG's limited backward pass and random search
  figNLS      fig1 for non-linear least squares on 20news
  fig2-left   HOAG, SHINE and SHINE-OPA on 20news
  fig2-right  quality of the inverse estimates
  fig-theorem error of the hypergradient against the inner tolerance
  fig-groups  what methods end at, by the number of hyperparameters
  fig3        accuracy of networks against the time of a backward pass, beside RESULTS/paper/fig3.csv
  figE2       quality of the inverse estimates in a network
  curves      curves-PROBLEM-DATA for each problem and data there is: all methods and variants found

  table-contractivity  spectral radius of trained networks
  table-networks       what networks are worth and what they cost, by method

The first four use runs with default settings only, and the synthetic_ stand-ins where the real data have no runs.
The table of time and products that linear models take is always written.

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
    except BrokenPipeError:  # `| head` has read enough; the figures are written
        silence_stdout()


def plot(options: argparse.Namespace) -> None:
    """Write the tables and the figures, and print what was written and what is missing."""
    runs = read_runs(options.results)
    searches = [run for run in runs if is_search(run)]
    figures = _chosen(_figures(runs, searches, options), options.figure)
    out = options.out or options.results / "figures"
    try:
        out.mkdir(parents=True, exist_ok=True)
        with house_style():
            drawings = [draw_table(searches), *(draw() for draw in figures.values())]
            written = [path for drawing in drawings for path in _write(drawing, out)]
    except OSError as error:
        raise UserError(
            f"cannot write into {out}: {error.strerror or error}; choose another folder: --out DIR"
        ) from error
    lines = [line for d in drawings if d.table is not None for line in (f"{d.name}:", d.table.aligned(), "")]
    lines += [*unfinished_lines(runs), *(note for drawing in drawings for note in drawing.notes)]
    print("\n".join([*lines, *(f"wrote {path}" for path in written)]), flush=True)


def _write(drawing: Drawing, out: Path) -> list[Path]:
    figure = save(drawing.figure, out, drawing.name) if drawing.figure is not None else []
    return figure + (drawing.table.save(out, drawing.name) if drawing.table is not None else [])


def _figures(
    runs: Sequence[Run], searches: Sequence[Run], options: argparse.Namespace
) -> dict[str, Callable[[], Drawing]]:
    x = options.x
    named = {comparison.name: partial(draw_comparison, comparison, searches, x) for comparison in COMPARISONS}
    studies = {
        INVERSION_FIGURE: partial(draw_inversion, runs),
        THEOREM_FIGURE: partial(draw_theorem, runs),
        GROUPS_FIGURE: partial(draw_groups, searches),
        BACKWARD_TIME_FIGURE: partial(draw_backward_time, runs, options.results / "paper" / "fig3.csv"),
        NETWORK_INVERSION_FIGURE: partial(draw_network_inversion, runs),
        CONTRACTIVITY_TABLE: partial(draw_contractivity, runs),
        NETWORK_TABLE: partial(draw_network_table, runs),
    }
    training = [run for run in runs if is_training(run)]
    curves = {f"curves-{where}": partial(draw_curves, where, searches, x) for where in _places(searches)}
    networks = {f"curves-{where}": partial(draw_network_curves, where, training, x) for where in _places(training)}
    return {**named, **studies, **curves, **networks}


def _places(runs: Sequence[Run]) -> list[str]:
    return sorted({place(run) for run in runs if len(run.trace)})


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

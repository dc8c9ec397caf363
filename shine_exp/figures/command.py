"""shine-plot: every figure for which there are traces, and what is missing for the others."""

import argparse
import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from shine_exp import __version__
from shine_exp.errors import UserError
from shine_exp.figures.drawing import COSTS
from shine_exp.runs.signals import silence_stdout

if TYPE_CHECKING:
    from shine_exp.figures.catalogue import Item
    from shine_exp.figures.drawing import Drawing
    from shine_exp.runs.run import Run

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

  table                time and products that linear models take, by method; goes with their figures
  table-contractivity  spectral radius of trained networks
  table-networks       what networks are worth and what they cost, by method

The first four use runs with default settings only, and the synthetic_ stand-ins where the real data have no runs.
A run that cannot be used is named on stderr, all others are drawn, and the exit code is 2.

examples:
  shine-run problem=logreg method=shine && shine-plot results/
  shine-run -m experiment=fig1 && shine-plot results/ --figure fig1 --figure figE1
  shine-plot results/ --x products --out figures/"""


def main() -> None:
    """Entry point. Exit code 2 for what the user can mend, a line on stderr for each; 130 where
    interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a terminal that lacks a character shows its code
    try:
        problems = plot(_parse(sys.argv[1:]))
    except UserError as error:
        problems = [error]
    except BrokenPipeError:  # `| head` has read enough; the figures are written
        silence_stdout()
        return
    except KeyboardInterrupt:
        print("shine-plot: interrupted; each file that it has written is whole", file=sys.stderr)
        sys.exit(130)
    for problem in problems:
        print(f"shine-plot: {problem}", file=sys.stderr)
    sys.exit(2 if problems else 0)


def plot(options: argparse.Namespace) -> list[UserError]:
    """Write the tables and the figures, and print what was written and what is missing; returns
    what was left out.
    """
    # Here, since they import pandas and NumPy: only once the arguments are known to be right.
    from shine_exp.figures.catalogue import catalogue, chosen
    from shine_exp.figures.provenance import not_recorded_line, refuse_mixed_data
    from shine_exp.figures.read import find_runs, read_traces
    from shine_exp.figures.runs import unfinished_lines

    found = find_runs(options.results)
    if not found.runs:
        return found.refused
    items = chosen(
        catalogue(found.runs, options.x, options.results / "paper" / "fig3.csv"), options.figure
    )
    read = read_traces(run for run in found.runs if any(item.reads(run) for item in items))
    out = options.out or options.results / "figures"
    try:
        drawings, written, failed = _draw(items, read.runs, out)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot write into {out}: {reason}; choose another folder: --out DIR"
        ) from error
    lines = [
        line
        for d in drawings
        if d.table is not None
        for line in (f"{d.name}:", d.table.aligned(), "")
    ]
    lines += [*unfinished_lines(read.runs), *not_recorded_line(read.runs)]
    lines += [note for drawing in drawings for note in drawing.notes]
    print("\n".join([*lines, *(f"wrote {path}" for path in written)]), flush=True)
    return [*found.refused, *read.refused, *refuse_mixed_data(read.runs), *failed]


def _draw(
    items: Sequence["Item"], runs: Sequence["Run"], out: Path
) -> tuple[list["Drawing"], list[Path], list[UserError]]:
    """Draw and write one after the other, so that one that cannot be drawn keeps no other from it."""
    from shine_exp.figures.style import house_style, save

    drawings, written, failed = [], [], []
    out.mkdir(parents=True, exist_ok=True)
    with house_style():
        for item in items:
            try:
                drawing = item.draw([run for run in runs if item.reads(run)])
            except UserError as error:
                failed.append(error)
                continue
            if drawing.figure is not None:
                written += save(drawing.figure, out, drawing.name)
            if drawing.table is not None:
                written += drawing.table.save(out, drawing.name)
            drawings.append(replace(drawing, figure=None))  # which takes memory
    return drawings, written, failed


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see shine-plot --help")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        "shine-plot", description=DESCRIPTION, epilog=EPILOG, formatter_class=formatter
    )
    parser.add_argument("--version", action="version", version=f"shine-plot {__version__}")
    parser.add_argument(
        "results", type=Path, help="the folder that shine-run wrote, searched at any depth"
    )
    parser.add_argument(
        "--figure",
        action="append",
        default=[],
        metavar="NAME",
        help="draw this one only (repeatable)",
    )
    parser.add_argument(
        "--x", choices=COSTS, default="time", help="cost on the x axis (default: time)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where to write (default: RESULTS/figures)"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()

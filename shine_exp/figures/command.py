"""shine-plot: every figure for which there are traces, and what is missing for the others."""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from shine_exp.errors import UserError
from shine_exp.figures.drawing import COSTS
from shine_exp.runs.signals import silence_stdout
from shine_exp.version import __version__

if TYPE_CHECKING:
    from shine_exp.figures.drawing import Drawing
    from shine_exp.figures.plot import Options, Plot
    from shine_exp.runs.run import Run

Told = tuple[list[str], list[UserError]]  # lines to print, and what could not be drawn

DESCRIPTION = """\
Draws the paper's figures and tables from the runs in a results folder; computes nothing else, so
it is quick and can be repeated while a sweep goes on. A figure without runs is not drawn: one line
says which command makes them."""

EPILOG = """\
figures and tables:
{listing}

The paper's comparisons of methods (fig1, fig2-left, …) use runs with default settings only, and
the synthetic_ stand-ins where the real data have no runs. Curves and tables show what a problem or
a task measures as test_loss, outer_loss or accuracy, and leave out what it does not.
A run that cannot be used is named on stderr, all others are drawn, and the exit code is 2.

examples:
  shine-plot results/ --html              one page, results/figures/index.html
  shine-run problem=logreg method=shine && shine-plot results/
  shine-run -m experiment=fig1 && shine-plot results/ --figure fig1 --figure figE1
  shine-plot results/ --x products --out figures/"""


def main() -> None:
    """Entry point.

    Exit code 2 for what the user can mend, a line on stderr for each; 130 where interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that lacks a character shows its code.
            stream.reconfigure(errors="backslashreplace")
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


def plot(arguments: argparse.Namespace) -> list[UserError]:
    """Write what was asked for, and print what was written and what is missing.

    Returns what was left out.
    """
    # Here, since they import pandas and NumPy: only once the arguments are known to be right.
    from shine_exp.figures.catalogue import chosen
    from shine_exp.figures.plot import Options
    from shine_exp.figures.provenance import refuse_mixed_data
    from shine_exp.figures.read import find_runs, read_traces

    results = arguments.results
    found = find_runs(results)
    if not found.runs:
        return found.refused
    plots = chosen(arguments.figure, found.runs)
    read = read_traces(run for run in found.runs if any(each.reads(run) for each in plots))
    refused = [*found.refused, *read.refused, *refuse_mixed_data(read.runs)]
    options = Options(arguments.x, published=results / "paper" / "fig3.csv")
    out = results if arguments.report else arguments.out or results / "figures"
    try:
        out.mkdir(parents=True, exist_ok=True)
        if arguments.html:
            lines, failed = _write_page(out, results, plots, read.runs, options, refused)
        elif arguments.report:
            lines, failed = _write_report(results, plots, read.runs, options)
        else:
            named = bool(arguments.figure)
            lines, failed = _write_files(out, plots, read.runs, options, named)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot write into {out}: {reason}; choose another folder: --out DIR"
        ) from error
    print("\n".join(lines), flush=True)
    return [*refused, *failed]


def _write_files(
    out: Path, plots: Sequence["Plot"], runs: Sequence["Run"], options: "Options", named: bool
) -> Told:
    """Each figure and table in files of its own. How to make what is missing is told if `named`."""
    from shine_exp.figures.axes import save
    from shine_exp.figures.grouping import unfinished_lines
    from shine_exp.figures.making import make
    from shine_exp.figures.provenance import not_recorded_line

    def written(drawing: "Drawing") -> list[Path]:
        figure = save(drawing.figure, out, drawing.name) if drawing.figure else []
        return figure + (drawing.table.save(out, drawing.name) if drawing.table else [])

    made, failed = make(plots, runs, options, written)
    lines: list[str] = []
    for each in made:
        if each.drawing.table and not each.is_figure:
            lines += [f"{each.drawing.name}:", each.drawing.table.aligned(), ""]
    lines += [*unfinished_lines(runs), *not_recorded_line(runs)]
    lacking = [each.drawing for each in made if each.drawing.lacks_its_runs]
    told = [each.drawing for each in made if named or not each.drawing.lacks_its_runs]
    lines += [note for drawing in told for note in drawing.notes]
    if lacking and not named:
        names = ", ".join(drawing.name for drawing in lacking)
        lines.append(
            f"{len(lacking)} of the paper's figures and tables have no finished runs here "
            f"({names}); --figure NAME says how to make them"
        )
    lines += [f"wrote {path}" for each in made for path in each.kept]
    return lines, failed


def _write_page(
    out: Path,
    results: Path,
    plots: Sequence["Plot"],
    runs: Sequence["Run"],
    options: "Options",
    refused: Sequence[UserError],
) -> Told:
    """All of it as one HTML file."""
    from shine_exp.figures.axes import svg
    from shine_exp.figures.claims import read_claims
    from shine_exp.figures.making import make
    from shine_exp.figures.page.page import write_page

    claims = read_claims(results)
    made, failed = make(plots, runs, options, lambda each: svg(each.figure) if each.figure else b"")
    path = write_page(out, results, runs, claims, made, [*refused, *failed])
    return [f"wrote {path}"], failed


def _write_report(
    results: Path, plots: Sequence["Plot"], runs: Sequence["Run"], options: "Options"
) -> Told:
    """The tables between the markers of REPORT.md."""
    from shine_exp.figures.claims import read_claims
    from shine_exp.figures.making import make
    from shine_exp.figures.report import fill_report

    claims = read_claims(results)
    made, failed = make(plots, runs, options, lambda _: None)
    tables = {each.drawing.name: each.drawing.table for each in made if each.drawing.table}
    return [f"wrote {fill_report(results, claims, tables)}"], failed


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see shine-plot --help")

    def format_help(self) -> str:
        # Only here: the plots import pandas and NumPy, for which a wrong argument does not wait.
        from shine_exp.figures.catalogue import listing

        self.epilog = EPILOG.format(listing=listing())
        return super().format_help()


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        "shine-plot",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"shine-plot {__version__}")
    where = "the folder that shine-run wrote, searched at any depth"
    parser.add_argument("results", type=Path, help=where)
    what = parser.add_mutually_exclusive_group()
    once = "draw this one only (repeatable)"
    what.add_argument("--figure", action="append", default=[], metavar="NAME", help=once)
    page = "one page in place of the files, index.html: claims, figures, tables and every run"
    what.add_argument("--html", action="store_true", help=page)
    report = "fill the tables of RESULTS/REPORT.md, between its markers, and write nothing else"
    what.add_argument("--report", action="store_true", help=report)
    cost = "cost on the x axis (default: time)"
    parser.add_argument("--x", choices=COSTS, default="time", help=cost)
    out = "where to write (default: RESULTS/figures)"
    parser.add_argument("--out", type=Path, metavar="DIR", help=out)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()

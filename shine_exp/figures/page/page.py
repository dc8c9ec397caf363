"""The page, filled in: what it shows in which order, and the file that it becomes."""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from shine_exp.errors import UserError
from shine_exp.figures.claims import Claim, Lines, Verdict, excerpt, headline
from shine_exp.figures.drawing import Table, replace_file
from shine_exp.figures.making import Made
from shine_exp.figures.page.runs import NUMBERS, entries
from shine_exp.runs.run import Run
from shine_exp.runs.state import State
from shine_exp.version import __version__

HERE = Path(__file__).parent
FILE = "index.html"
MARKS = dict(zip(get_args(Verdict), "✓◐✗…–", strict=True))


@dataclass(frozen=True)
class Judged:
    """A claim, and the numbers that it rests on: as a table, and the shortest by their names."""

    claim: Claim
    lines: Lines
    headline: Mapping[str, str]


@dataclass(frozen=True)
class Shown:
    """A figure or a table of the page; `image` is an SVG as a data URI, empty for a table."""

    name: str
    title: str
    image: str
    table: Table | None
    notes: Sequence[str]
    command: str


def write_page(
    out: Path,
    results: Path,
    runs: Iterable[Run],
    claims: Sequence[Claim],
    made: Sequence[Made[bytes]],
    refused: Sequence[UserError],
) -> Path:
    """Write all that there is to show of a folder of results as one HTML file, and return its path.

    It loads nothing: styles, script and figures are within it. Whatever stands in a run's files is
    shown as text; a figure is an image, in which no script runs, and but for the page's own script,
    known by its hash, the browser is told to run none.
    """
    tables = {each.drawing.name: each.drawing.table for each in made if each.drawing.table}
    script = (HERE / "page.js").read_text()
    all_runs = list(entries(results, runs))
    content = (
        _environment()
        .get_template("page.html")
        .render(
            folder=results,
            version=__version__,
            style=Markup((HERE / "page.css").read_text()),  # ours, not to be escaped
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            marks=MARKS,
            judged=[
                Judged(claim, excerpt(claim, tables), headline(claim, tables)) for claim in claims
            ],
            verdicts=Counter(claim.verdict for claim in claims),
            figures=_in_order([_shown(each) for each in made if each.is_figure], claims),
            tables=[_shown(each) for each in made if each.drawing.table and not each.is_figure],
            lacking=[each.drawing.name for each in made if each.drawing.lacks_its_runs],
            notes=[
                note for each in made if each.drawing.lacks_its_runs for note in each.drawing.notes
            ],
            runs=all_runs,
            states=Counter(run.state for run in all_runs),
            state_order=[state.value for state in State],
            numbers=NUMBERS,
            refused=refused,
        )
    )
    return replace_file(out, FILE, content.encode(errors="backslashreplace"))


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _shown(made: Made[bytes]) -> Shown:
    drawing = made.drawing
    image = base64.b64encode(made.kept).decode()
    return Shown(
        drawing.name,
        made.plot.claim,
        f"data:image/svg+xml;base64,{image}" if made.is_figure else "",
        drawing.table,
        drawing.notes,
        f"shine-run -m experiment={made.plot.experiment}" if made.plot.experiment else "",
    )


def _in_order(figures: Sequence[Shown], claims: Sequence[Claim]) -> list[Shown]:
    """Those that claims rest on first, in the order of the claims."""
    names = [claim.measured.figure for claim in claims if claim.measured]
    ranks = {name: rank for rank, name in reversed(list(enumerate(names)))}
    return sorted(figures, key=lambda each: ranks.get(each.name, len(names)))

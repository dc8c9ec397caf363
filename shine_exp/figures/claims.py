"""The claims that a folder of results judges: claims.yaml, with numbers taken from the tables.

A claim names the rows and columns of a figure's table that it rests on. So a number of it is never
typed, and is the same in the report and on the page.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml

from shine_exp.errors import UserError
from shine_exp.figures.drawing import Table
from shine_exp.figures.summaries import NOTHING

CLAIMS = "claims.yaml"  # in the folder of results
Verdict = Literal["agrees", "in part", "differs", "open", "not testable here"]
Lines = tuple[tuple[str, ...], ...]  # the header first, as in `Table.lines`


@dataclass(frozen=True)
class Headline:
    """What says it shortest: the numbers of one column, in the rows with the cells of `only`.

    The cells under `names` say which row a number is of.
    """

    column: str
    names: list[str]
    only: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Across:
    """A column whose cells become columns, with what stands under each: `values`, by a slash."""

    column: str
    values: list[str]


@dataclass(frozen=True)
class Measured:
    """Which part of the table of a figure: rows with these cells, under these columns."""

    figure: str
    columns: list[str]
    rows: dict[str, list[str]] = field(default_factory=dict)
    across: Across | None = None
    headline: Headline | None = None


@dataclass(frozen=True)
class Claim:
    """What the paper, or we, say; where; whether our runs agree; what they rest on; and why so."""

    name: str
    claim: str
    source: str
    verdict: Verdict
    reading: str
    measured: Measured | None = None


def read_claims(results: Path) -> list[Claim]:
    """The claims in a folder of results; none where it has no claims.yaml.

    Raises `UserError` where the file is not what it should be.
    """
    path = results / CLAIMS
    if not path.is_file():
        return []
    adapter = pydantic.TypeAdapter(
        list[Claim], config=pydantic.ConfigDict(coerce_numbers_to_str=True, extra="forbid")
    )
    try:
        claims = adapter.validate_python(yaml.safe_load(path.read_bytes()))
    except pydantic.ValidationError as error:
        raise UserError(f"{path}: {_first(error)}") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    names = [claim.name for claim in claims]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{path}: two claims are called {twice[0]}; give each its own name")
    return claims


def excerpt(claim: Claim, tables: Mapping[str, Table]) -> Lines:
    """The rows and columns of its table that a claim rests on, under a header.

    Empty where there are no runs for it. Raises `UserError` where the table has no such column.
    """
    measured = claim.measured
    if measured is None or (table := tables.get(measured.figure)) is None:
        return ()
    found = _rows(claim, table, measured.rows)
    if measured.across is not None:
        return _spread_out(found, measured.columns, measured.across)
    shown = [tuple(row[column] for column in measured.columns) for row in found]
    return (tuple(measured.columns), *shown) if shown else ()


def _spread_out(rows: Iterable[Mapping[str, str]], columns: Sequence[str], across: Across) -> Lines:
    """A row for each combination of cells in `columns`; a dash where none of the rows has one."""
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        cell = " / ".join(row[value] for value in across.values)
        found.setdefault(tuple(row[c] for c in columns), {})[row[across.column]] = cell
    titles = list(dict.fromkeys(title for cells in found.values() for title in cells))
    lines = ((*key, *(cells.get(t, NOTHING) for t in titles)) for key, cells in found.items())
    return ((*columns, *titles), *lines) if found else ()


def headline(claim: Claim, tables: Mapping[str, Table]) -> dict[str, str]:
    """The shortest numbers of a claim, by the names of their rows; none without runs.

    Of a median with its range only the median is told. Raises `UserError` as `excerpt`.
    """
    measured = claim.measured
    if measured is None or measured.headline is None or measured.figure not in tables:
        return {}
    short = measured.headline
    rows = _rows(claim, tables[measured.figure], measured.rows | short.only)
    return {
        " ".join(row[name] for name in short.names): row[short.column].split(" [")[0]
        for row in rows
    }


def _rows(claim: Claim, table: Table, wanted: Mapping[str, list[str]]) -> list[dict[str, str]]:
    """The rows of a table that have the wanted cells, by column."""
    assert claim.measured is not None
    header, *lines = table.lines
    short, across = claim.measured.headline, claim.measured.across
    named = [*claim.measured.columns, *wanted]
    named += [short.column, *short.names] if short else []
    named += [across.column, *across.values] if across else []
    if unknown := [column for column in named if column not in header]:
        raise UserError(
            f"{CLAIMS}: {claim.name}: the table of {claim.measured.figure} has no column "
            f"{unknown[0]!r}; it has: {', '.join(header)}"
        )
    rows = (dict(zip(header, line, strict=True)) for line in lines)
    return [row for row in rows if all(row[column] in wanted[column] for column in wanted)]


def _first(error: pydantic.ValidationError) -> str:
    """The first of the errors, with its place in the file."""
    first: Any = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"

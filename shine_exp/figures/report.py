"""REPORT.md in a folder of results: its text is written, what stands between markers is filled in.

<!-- begin claims -->      every claim with its verdict
<!-- end claims -->

<!-- begin NAME -->        what the claim of this name rests on, as a table
<!-- end NAME -->
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from shine_exp.errors import UserError
from shine_exp.figures.claims import CLAIMS, Claim, excerpt, headline
from shine_exp.figures.drawing import Table, markdown_table, replace_file

REPORT = "REPORT.md"  # in the folder of results
ALL = "claims"  # the name of the block with all claims
BLOCK = re.compile(r"<!-- begin (?P<name>\S+) -->\n.*?<!-- end (?P=name) -->", re.DOTALL)
MARKER = re.compile(r"<!-- (?:begin|end) \S+ -->")


def fill_report(results: Path, claims: Sequence[Claim], tables: Mapping[str, Table]) -> Path:
    """Replace what stands between the markers of the report, and return its path.

    Raises `UserError` where there is no report, or a marker names no claim or has no partner.
    """
    path = results / REPORT
    try:
        text = path.read_bytes().decode()
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    return replace_file(results, REPORT, filled(text, claims, tables).encode())


def filled(text: str, claims: Sequence[Claim], tables: Mapping[str, Table]) -> str:
    """A report with its blocks filled in; nothing else changes."""
    blocks = {claim.name: _table_of(claim, tables) for claim in claims}
    blocks[ALL] = _overview(claims, tables)
    if lone := MARKER.findall(BLOCK.sub("", text)):
        raise UserError(f"{REPORT}: the marker {lone[0]} has no partner; add it or take it away")
    if unknown := [name for name in BLOCK.findall(text) if name not in blocks]:
        raise UserError(f"{REPORT}: no claim in {CLAIMS} is called {unknown[0]}")
    return BLOCK.sub(
        lambda block: (
            f"<!-- begin {block['name']} -->\n\n{blocks[block['name']]}\n\n"
            f"<!-- end {block['name']} -->"
        ),
        text,
    )


def _overview(claims: Sequence[Claim], tables: Mapping[str, Table]) -> str:
    rows = [(claim.claim, claim.source, claim.verdict, _told(claim, tables)) for claim in claims]
    return markdown_table([("claim", "source", "verdict", "measured"), *rows])


def _told(claim: Claim, tables: Mapping[str, Table]) -> str:
    """The headline of a claim: `s to 0.1 %: SHINE 6.9, HOAG 11.4`."""
    numbers = headline(claim, tables)
    if not numbers or claim.measured is None or claim.measured.headline is None:
        return ""
    told = ", ".join(f"{name} {number}" for name, number in numbers.items())
    return f"{claim.measured.headline.column}: {told}"


def _table_of(claim: Claim, tables: Mapping[str, Table]) -> str:
    lines = excerpt(claim, tables)
    return markdown_table(lines) if lines else "No finished runs."

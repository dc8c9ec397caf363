"""claims.yaml and the report: numbers come from tables, and what is wrong is one line."""

from pathlib import Path

import pandas as pd
import pytest

from shine_exp.errors import UserError
from shine_exp.figures.claims import Claim, excerpt, headline, read_claims
from shine_exp.figures.drawing import Table
from shine_exp.figures.report import filled

LINES = (
    ("data", "method", "s to 1 %", "seeds"),
    ("20news", "SHINE", "6.9 [4.7, 11]", "10"),
    ("20news", "HOAG", "11.4 [8.6, 22]", "10"),
    ("real-sim", "SHINE", "–", "0"),
)
TABLES = {"fig1": Table(LINES, "", pd.DataFrame())}
WRITTEN = """
- name: first
  claim: SHINE is before HOAG.
  source: figure 1
  verdict: agrees
  reading: By time.
  measured:
    figure: fig1
    rows: {data: [20news]}
    columns: [method, s to 1 %]
    headline: {column: s to 1 %, names: [method]}
- name: second
  claim: On real-sim too.
  source: figure 1
  verdict: not testable here
  reading: No data.
"""


@pytest.fixture
def claims(results: Path):
    def read(text: str = WRITTEN) -> list[Claim]:
        (results / "claims.yaml").write_text(text)
        return read_claims(results)

    return read


def test_claim_has_the_rows_and_columns_that_it_names(claims) -> None:
    first, second = claims()
    assert excerpt(first, TABLES) == (
        ("method", "s to 1 %"),
        ("SHINE", "6.9 [4.7, 11]"),
        ("HOAG", "11.4 [8.6, 22]"),
    )
    assert headline(first, TABLES) == {"SHINE": "6.9", "HOAG": "11.4"}
    assert (excerpt(second, TABLES), headline(second, TABLES)) == ((), {})
    assert (excerpt(first, {}), headline(first, {})) == ((), {})


def test_cells_of_a_column_can_become_columns(claims) -> None:
    across = "    columns: [method]\n    across: {column: data, values: [s to 1 %, seeds]}\n"
    text = WRITTEN.replace("    rows: {data: [20news]}\n    columns: [method, s to 1 %]\n", across)
    assert excerpt(claims(text)[0], TABLES) == (
        ("method", "20news", "real-sim"),
        ("SHINE", "6.9 [4.7, 11] / 10", "– / 0"),
        ("HOAG", "11.4 [8.6, 22] / 10", "–"),
    )


def test_folder_without_claims_has_none(results: Path) -> None:
    assert read_claims(results) == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("agrees", "true", "0.verdict: "),
        ("  source: figure 1\n  verdict: agrees\n", "", "0.source: field required"),
        ("  reading: By time.", "  reading: By time.\n  note: no", "0.note: "),
        ("name: second", "name: first", "two claims are called first"),
        ("claim: On", "claim: [On", "cannot be read"),
    ],
)
def test_wrong_claims_are_one_line(claims, results: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        claims(WRITTEN.replace(old, new))
    assert str(results / "claims.yaml") in str(error.value)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_column_that_no_table_has_is_named(claims) -> None:
    (first, _) = claims(WRITTEN.replace("columns: [method, s to 1 %]", "columns: [method, ms]"))
    with pytest.raises(UserError, match=r"first: the table of fig1 has no column 'ms'; it has: da"):
        excerpt(first, TABLES)


REPORT = """# Report

<!-- begin claims -->
<!-- end claims -->

Words stay.

<!-- begin first -->
an old number: 7
<!-- end first -->
"""


def test_report_is_filled_between_markers_and_nowhere_else(claims) -> None:
    text = filled(REPORT, claims(), TABLES)
    assert "| SHINE is before HOAG. | figure 1 | agrees | s to 1 %: SHINE 6.9, HOAG 11.4 |" in text
    assert "| On real-sim too. | figure 1 | not testable here |  |" in text
    assert "| HOAG | 11.4 [8.6, 22] |\n\n<!-- end first -->\n" in text
    assert "Words stay." in text
    assert "old number" not in text
    assert filled(text, claims(), TABLES) == text


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("begin first", "begin third", "<!-- begin third --> has no partner"),
        ("<!-- end claims -->\n", "", "<!-- begin claims --> has no partner"),
        (" first ", " third ", "no claim in claims.yaml is called third"),
    ],
)
def test_wrong_markers_are_one_line(claims, old: str, new: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        filled(REPORT.replace(old, new), claims(), TABLES)

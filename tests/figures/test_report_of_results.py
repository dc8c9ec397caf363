"""The committed report is what the code makes of the committed traces and claims."""

from pathlib import Path

import pytest

from shine_exp.figures.catalogue import chosen
from shine_exp.figures.claims import excerpt, headline, read_claims
from shine_exp.figures.drawing import Table
from shine_exp.figures.making import make
from shine_exp.figures.plot import Options
from shine_exp.figures.read import find_runs, read_traces
from shine_exp.figures.report import REPORT, filled

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture(scope="module")
def tables() -> dict[str, Table]:
    """Of the figures that claims rest on."""
    names = {claim.measured.figure for claim in read_claims(RESULTS) if claim.measured}
    found = find_runs(RESULTS)
    plots = [plot for plot in chosen(sorted(names), found.runs) if plot.name in names]
    read = read_traces(run for run in found.runs if any(each.reads(run) for each in plots))
    assert found.refused + read.refused == []
    options = Options("time", RESULTS / "paper" / "fig3.csv")
    made, failed = make(plots, read.runs, options, lambda _: None)
    assert failed == []
    return {each.drawing.name: each.drawing.table for each in made if each.drawing.table}


def test_report_is_what_its_traces_say(tables: dict[str, Table]) -> None:
    text = (RESULTS / REPORT).read_text()
    assert filled(text, read_claims(RESULTS), tables) == text, "shine-plot results --report"


def test_every_claim_with_numbers_has_them(tables: dict[str, Table]) -> None:
    for claim in read_claims(RESULTS):
        if claim.measured is not None:
            _, *rows = excerpt(claim, tables)
            assert rows, claim.name
            assert claim.measured.headline is None or headline(claim, tables), claim.name
            for column, cells in claim.measured.rows.items():
                of_table = tables[claim.measured.figure].lines
                there = {line[of_table[0].index(column)] for line in of_table[1:]}
                assert set(cells) <= there, f"{claim.name}: {column}"

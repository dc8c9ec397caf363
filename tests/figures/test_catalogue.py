from pathlib import Path

import pytest

from shine_exp.errors import UserError
from shine_exp.figures import plots
from shine_exp.figures.catalogue import chosen, listing, plot_classes
from shine_exp.runs.run import load_runs

ROWS = [(1, 1, 0.5, 0.5)]


def names(wanted: list[str], results: Path) -> list[str]:
    return [plot.name for plot in chosen(wanted, load_runs(results))]


def test_catalogue_finds_one_class_in_every_file_of_plots() -> None:
    files = {path.stem for path in Path(plots.__path__[0]).glob("[!_]*.py")}
    found = plot_classes()
    assert sorted(each.__module__.rpartition(".")[2] for each in found) == sorted(files)
    assert len({each.name for each in found}) == len(found)
    for each in found:
        assert each.claim == each.claim.strip()
        assert f"  {each.name} " in listing()


def test_catalogue_has_curves_for_each_place(add_run, add_network, results: Path) -> None:
    add_run("shine", 0, ROWS)
    add_run("shine", 0, ROWS, where=("nls", "digits"))
    add_network("shine", 0, [{}])
    curves = ["curves-logreg-20news", "curves-nls-digits", "curves-mdeq-digits_images"]
    assert names(["curves"], results) == [*curves, "table"]
    assert names(["curves-nls-digits"], results) == ["curves-nls-digits", "table"]
    assert set(curves) < set(names([], results))


def test_catalogue_adds_the_table_to_figures_of_searches_alone(
    add_run, add_network, results: Path
) -> None:
    add_run("shine", 0, ROWS)
    add_network("shine", 0, [{}])
    assert names(["fig1"], results) == ["fig1", "table"]
    assert names(["fig3", "fig-theorem"], results) == ["fig-theorem", "fig3"]


def test_catalogue_refuses_an_unknown_name_with_the_known_ones(add_run, results: Path) -> None:
    add_run("shine", 0, ROWS)
    with pytest.raises(
        UserError, match=r"no such figure: fig7; there are: curves, fig-architecture, "
    ):
        names(["fig7"], results)

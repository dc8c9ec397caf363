"""Curves and tables of a problem or a task that measures what it likes."""

import csv
from pathlib import Path

import pytest
from traces import curves_in, draw, figure_of, row_of_costs, table_of

from shine_exp.figures.kinds import is_search, is_training
from shine_exp.figures.plots.curves import Curves
from shine_exp.figures.plots.fig3 import Fig3
from shine_exp.figures.plots.table import CostTable
from shine_exp.figures.plots.table_contractivity import ContractivityTable
from shine_exp.figures.plots.table_networks import NetworksTable
from shine_exp.figures.read import find_runs, read_traces

RIDGE = ("ridge", "none")
COPY = ("copy", "none")
MEASURED_BY_IMAGES = ("test_loss", "accuracy", "spectral_radius")


def measured(step: int, **losses: float) -> dict[str, float]:
    return row_of_costs(step, 1.0 + step, 2 + step, 1) | losses


def without(*columns: str) -> dict[str, float]:
    """An epoch of `add_network` cannot lack a column, so that these tests write their own."""
    row = {"step": 20, "time": 2.0, "epoch": 1, "products": 6.0, "train_loss": 0.4}
    row |= {"forward_ms": 20.0, "backward_ms": 10.0, "converged": 0.75}
    return {name: value for name, value in row.items() if name not in columns}


@pytest.fixture
def ridge(add_run, results: Path) -> Path:
    """Two methods on a problem of one's own with an outer loss and a norm, and no data set."""
    for method, end in (("shine", 0.5), ("cg", 0.7)):
        rows = [measured(0, outer_loss=0.9, norm=3.0), measured(1, outer_loss=end, norm=2.0)]
        add_run(method, 0, rows, where=RIDGE)
    return results


def test_curves_draw_the_outer_loss_where_there_is_no_held_out_loss(ridge: Path) -> None:
    (ax,) = figure_of(draw(Curves("ridge-none", "there", is_search), ridge)).axes
    assert curves_in(ax) == {"SHINE": ([1, 2], [0.4, 0]), "HOAG": ([1, 2], [0.4, 0.2])}
    assert ax.get_ylabel() == "|outer loss − best end|"
    assert ax.get_title() == "ridge\none seed"


def test_legend_of_a_single_panel_fits_into_its_figure(add_run, results: Path) -> None:
    for method in ("shine", "cg", "grid"):
        row = measured(0, outer_loss=1.0)
        add_run(method, 0, [row], where=RIDGE, differs={"outer.n_steps": 15})
    figure = figure_of(draw(Curves("ridge-none", "there", is_search), results))
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width


def test_curves_draw_the_held_out_loss_first_where_there_is_one(add_run, results: Path) -> None:
    rows = [measured(0, test_loss=0.9), measured(1, test_loss=0.4)]
    add_run("shine", 0, rows, where=RIDGE)
    (ax,) = figure_of(draw(Curves("ridge-none", "there", is_search), results)).axes
    assert ax.get_ylabel() == "held-out loss − best passed"
    add_run("cg", 0, [measured(0, outer_loss=0.3)], where=RIDGE)
    held_out, outer = figure_of(draw(Curves("ridge-none", "there", is_search), results)).axes
    assert held_out.get_ylabel() == "held-out loss − best passed"
    assert curves_in(held_out) == {"SHINE": ([1, 2], [0.5, 0]), "HOAG": ([], [])}
    assert curves_in(outer) == {"SHINE": ([], []), "HOAG": ([1], [0])}


def test_curves_of_a_problem_without_a_loss_say_so(add_run, results: Path) -> None:
    add_run("shine", 0, [measured(0, norm=3.0)], where=RIDGE)
    drawing = draw(Curves("ridge-none", "there", is_search), results)
    assert drawing.figure is None
    assert drawing.notes == ("curves-ridge-none: no run has a column test_loss or outer_loss",)
    assert draw(CostTable(), results).table is None


def test_table_leaves_out_the_held_out_loss_that_no_run_has(ridge: Path) -> None:
    table = table_of(draw(CostTable(), ridge))
    assert table.lines[0][4:7] == ("time (s)", "products", "diverged")
    assert table.lines[3][:6] == ("ridge-none", "shine", "1 %", "1 of 1", "2", "4")
    table.save(ridge, "table")
    columns = next(csv.reader((ridge / "table.csv").read_text().splitlines()))
    assert not [column for column in columns if column.startswith("held_out")]


def test_table_has_a_dash_where_only_other_runs_have_a_held_out_loss(ridge: Path, add_run) -> None:
    add_run("shine", 0, [(1, 10, 0.5, 0.25)])
    lines = {line[:3]: line[4:7] for line in table_of(draw(CostTable(), ridge)).lines}
    assert lines["problem-data", "method", "within"] == ("time (s)", "products", "held-out loss")
    assert lines["logreg-20news", "shine", "1 %"][2] == "0.25"
    assert lines["ridge-none", "shine", "1 %"][2] == "–"
    assert lines["ridge-none", "cg", "1 %"] == ("inf", "inf", "–")


def test_run_without_a_data_set_has_no_digest_to_record(add_run, results: Path) -> None:
    for seed, data in enumerate([{}, {"digest": None}, None]):
        add_run("shine", seed, [measured(0, outer_loss=1.0)], where=RIDGE, info={"data": data})
    found = find_runs(results)
    read = read_traces(found.runs)
    assert (len(read.runs), found.refused, read.refused) == (3, [], [])
    assert table_of(draw(CostTable(), results)).lines[1][-1] == "none"


def test_task_without_test_loss_and_accuracy_has_curves_of_its_training_loss(
    add_run, results: Path
) -> None:
    add_run("shine", 0, [without()], where=COPY, outer="train")
    (ax,) = figure_of(draw(Curves("copy-none", "there", is_training), results)).axes
    assert curves_in(ax) == {"SHINE": ([2], [0.4])}
    assert (ax.get_ylabel(), ax.get_title()) == ("training loss", "copy\none seed")
    bare = draw(Curves("copy-mine", "there", is_training), results)
    add_run("jf", 0, [without("train_loss")], where=("copy", "mine"), outer="train")
    assert bare.notes == ("curves-copy-mine: no run has a row yet",)
    (note,) = draw(Curves("copy-mine", "there", is_training), results).notes
    assert note == "curves-copy-mine: no run has any of the columns test_loss, accuracy, train_loss"


@pytest.mark.parametrize("column", ["test_loss", "accuracy"])
def test_task_has_a_panel_for_what_it_measures(add_run, results: Path, column: str) -> None:
    add_run("shine", 0, [without() | {column: 0.25}], where=COPY, outer="train")
    (ax,) = figure_of(draw(Curves("copy-none", "there", is_training), results)).axes
    expected = {"test_loss": ("test loss", 0.25), "accuracy": ("top-1 (%)", 25)}
    label, value = expected[column]
    assert (ax.get_ylabel(), curves_in(ax)) == (label, {"SHINE": ([2], [value])})


def test_tables_of_networks_leave_out_what_no_run_has(add_run, results: Path) -> None:
    config = {"outer": {"pretrain_steps": 0}}
    add_run("shine", 0, [without()], where=COPY, outer="train", config=config)
    table = table_of(draw(NetworksTable(), results))
    shown = {"forward (ms)": "20", "backward (ms)": "10", "products per step": "6"}
    cells = dict(zip(*table.lines, strict=True))
    assert list(cells)[3:8] == [*shown, "share converged", "diverged"]
    assert cells.items() >= shown.items()
    assert not {"accuracy_mean", "test_loss_median"} & set(table.data)
    assert draw(ContractivityTable(), results).table is None
    assert draw(Fig3(), results).figure is None
    radius = without() | {"spectral_radius": 0.5}
    add_run("jf", 0, [radius], where=COPY, outer="train", config=config)
    contractivity = table_of(draw(ContractivityTable(), results))
    assert contractivity.lines == (
        ("network", "method", "seeds", "spectral radius"),
        ("copy", "jf", "1", "0.5"),
    )


def test_column_that_no_figure_knows_may_hold_text(add_run, results: Path) -> None:
    add_run("shine", 0, [measured(0, outer_loss=1.0) | {"regime": "stiff"}], where=RIDGE)
    assert not read_traces(find_runs(results).runs).refused

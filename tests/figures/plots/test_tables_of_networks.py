from pathlib import Path

import pytest
from traces import draw, table_of

from shine_exp.figures.plots.table_contractivity import ContractivityTable
from shine_exp.figures.plots.table_networks import NetworksTable


@pytest.fixture
def runs(add_network, results: Path) -> Path:
    """shine is done with seeds 0 to 2; jf is done with 1, diverged with 0, is running with 3."""
    pretraining = [{"backward_ms": 999.0, "forward_ms": 999.0, "products": ""}] * 2
    for seed, (accuracy, radius) in enumerate([(0.9, 0.5), (0.92, 0.8), (0.94, 1.25)]):
        last = {
            "accuracy": accuracy,
            "spectral_radius": radius,
            "test_loss": 0.1 + 0.1 * seed,
            "products": 5.0,
        }
        add_network("shine", seed, [*pretraining, {"backward_ms": 10.0 + seed} | last])
    add_network("jf", 0, [*pretraining, {"accuracy": 0.1}], status="diverged")
    add_network("jf", 1, [*pretraining, {"accuracy": 0.8, "fell_back": 0.25}])
    add_network("jf", 3, [*pretraining, {"accuracy": 0.7}], status="running")
    add_network(
        "unroll", 0, [{"spectral_radius": "", "forward_residual": "", "backward_residual": ""}] * 3
    )
    return results


def test_networks_table_cells_and_numbers(runs: Path) -> None:
    table = table_of(draw(NetworksTable(), runs))
    header, jf, shine, unroll, *_ = (
        dict(zip(table.lines[0], line, strict=True)) for line in table.lines
    )
    assert list(header)[:4] == ["network", "method", "done", "top-1 (%)"]
    assert list(jf.values()) == [
        *(
            "MDEQ, digits",
            "jf",
            "1 of 3",
            "80.00",
            "0.5",
            "20",
            "10",
            "6",
            "0.001",
            "0.75",
            "0.01",
            "0.25",
            "1",
            "1",
            "1",
            "not recorded",
            "not recorded",
        ),
    ]
    assert shine["top-1 (%)"] == "92.00 ± 2.00"
    assert shine["test loss"] == "0.2 [0.1, 0.3]"
    assert shine["backward (ms)"] == "11 [10, 12]"
    assert shine["products per step"] == "5 [5, 5]"
    assert (shine["share fell back"], shine["diverged"], shine["missing"]) == ("–", "0", "1")
    assert unroll["forward residual"] == "–"
    row = table.data.iloc[1]
    assert row[["method", "seeds", "done", "missing"]].tolist() == ["shine", 3, 3, 1]
    assert row[["accuracy_mean", "accuracy_std"]].tolist() == pytest.approx([92, 2])
    assert row[["backward_ms_median", "backward_ms_min", "backward_ms_max"]].tolist() == [
        11,
        10,
        12,
    ]


def test_networks_table_says_which_published_models_are_not_trained(
    add_network, results: Path
) -> None:
    """Until there is a run of them, done or not; none beside networks of other problems."""
    add_network("shine", 0, [{}], where=("adding", "none"))
    assert len(table_of(draw(NetworksTable(), results)).lines) == 2
    add_network("shine", 0, [{}])
    table = table_of(draw(NetworksTable(), results))
    untrained = [line for line in table.lines if line[1] == "not trained here"]
    assert [line[0] for line in untrained] == ["MDEQ tiny", "MDEQ large"]
    assert {cell for line in untrained for cell in line[2:]} == {"–"}
    assert len(table.data) == 2
    tiny = {"problem": "mdeq", "data": "cifar10", "outer": "train", "problem/model": "tiny"}
    add_network(
        "shine",
        0,
        [{}],
        where=("mdeq", "cifar10"),
        info={"choices": {**tiny, "method": "shine"}},
        differs={"problem/model": "tiny", "outer/schedule": "one_cycle"},
    )
    names = [line[0] for line in table_of(draw(NetworksTable(), results)).lines]
    assert "MDEQ tiny, CIFAR-10, outer schedule one_cycle" in names
    assert ("MDEQ tiny" in names, "MDEQ large" in names) == (False, True)


def test_networks_table_counts_unsolved_solves_and_names_data(add_network, results: Path) -> None:
    last = {"unsolved_inner": 640, "unsolved_backward": 3}
    add_network(
        "shine",
        0,
        [dict.fromkeys(last, 0) | {"products": 5.0}, last],
        info={"data": {"digest": "ab" * 32}},
    )
    add_network("shine", 1, [{}], status="running", info={"unsolved": {"inner": 1, "backward": 0}})
    add_network("jf", 0, [{}])
    jf, shine = table_of(draw(NetworksTable(), results)).lines[1:3]
    assert jf[-2:] == ("not recorded", "not recorded")
    assert shine[-2:] == ("641 inner + 3 backward in 2 of 2 runs", "abababab, not recorded")


def test_contractivity_table_is_of_runs_that_are_done_and_measured_it(runs: Path) -> None:
    table = table_of(draw(ContractivityTable(), runs))
    assert table.lines[1:] == (
        ("MDEQ, digits", "jf", "1", "0.6", "80.00", "0.001", "0.01"),
        (
            "MDEQ, digits",
            "shine",
            "3",
            "0.8 [0.5, 1.25]",
            "92.00 ± 2.00",
            "0.001 [0.001, 0.001]",
            "0.01 [0.01, 0.01]",
        ),
    )
    row = table.data.iloc[1]
    assert row[
        ["spectral_radius_median", "spectral_radius_min", "spectral_radius_max"]
    ].tolist() == [0.8, 0.5, 1.25]
    assert row[["seeds", "accuracy_mean"]].tolist() == [3, 92]


def test_networks_table_only_counts_unfinished_runs(add_network, results: Path) -> None:
    add_network("jf", 0, [{}], status="interrupted")
    line, *_ = table_of(draw(NetworksTable(), results)).lines[1:]
    assert line == (
        "MDEQ, digits",
        "jf",
        "0 of 1",
        *"–––––––––",
        "0",
        "1",
        "0",
        *["not recorded"] * 2,
    )
    drawing = draw(ContractivityTable(), results)
    assert drawing.table is None
    how = "make them with: shine-run -m experiment=fig3"
    assert drawing.notes == (
        f"table-contractivity: no finished runs with a spectral radius; {how}",
    )


def test_networks_table_without_runs_says_how_to_make_them(add_run, results: Path) -> None:
    add_run("shine", 0, [(1, 1, 1, 1)])
    drawing = draw(NetworksTable(), results)
    assert drawing.table is None
    how = "make them with: shine-run -m experiment=fig3"
    assert drawing.notes == (f"table-networks: no runs with outer=train; {how}",)

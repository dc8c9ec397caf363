"""`experiment=advise`: the table of a network's backward passes, new or trained."""

import json
from pathlib import Path

import pytest

SMALL = ("problem.n_train=64", "problem.n_test=8", "problem.batch_size=16", "problem.cell.width=16")


def test_advise_compares_all_methods_in_a_new_network(shine_run, folders, status, trace) -> None:
    outcome = shine_run("experiment=advise", *SMALL)
    assert (outcome.code, outcome.err) == (0, "")
    (folder,) = folders()
    assert status(folder) == "done"
    rows = trace(folder)
    assert rows.method.tolist()[-1] == "solved"
    assert {"jf", "shine", "refine 3", "refine_jf 5", "neumann 5"} <= set(rows.method)
    assert rows.spectral_radius.nunique() == 1
    assert float(rows.cosine.iloc[-1]) == pytest.approx(1)
    advice = [line for line in outcome.out.splitlines() if line.startswith(("Take", "Solve"))]
    assert len(advice) == 1
    assert "ρ(∂f/∂z)" in advice[0]


def test_advise_takes_the_network_of_a_run(shine_run, folders, trace) -> None:
    """It is not the new one, whose rows are others."""
    assert shine_run("problem=sudoku", "method=jf", "outer.epochs=1", *SMALL).code == 0
    (run,) = folders()
    assert shine_run("experiment=advise", *SMALL).code == 0
    outcome = shine_run("experiment=advise", *SMALL, f'outer.trained.folder="{run}"')
    assert (outcome.code, outcome.err) == (0, "")
    cosines = [trace(folder).cosine.iloc[0] for folder in folders() if folder.parent != run.parent]
    assert len(set(cosines)) == 2


def test_advise_refuses_the_network_of_another_cell_or_no_run(shine_run, folders) -> None:
    assert shine_run("problem=sudoku", "method=jf", "outer.epochs=1", *SMALL).code == 0
    (run,) = folders()
    trained = f'outer.trained.folder="{run}"'
    for more, says in (
        (("problem/cell=injected", trained), "its cell is PostCell, and here InjectedCell"),
        (("problem.cell.heads=2", "problem.n_test=9", trained), "its n_test is 8, and here 9"),
        (("problem.cell.width=32", trained), "it has no network of these sizes"),
        (("outer.trained.folder=nowhere",), "no run in nowhere: name the folder of one"),
    ):
        outcome = shine_run("experiment=advise", *SMALL, *more)
        assert outcome.code == 2, more
        assert says in outcome.err
        assert outcome.err.count("\n") == 1
    info = json.loads((Path(run) / "run.json").read_text())
    assert info["cell"] == "PostCell"

import json
import math
import re
from pathlib import Path

import pytest

from shine_exp.errors import UserError
from shine_exp.figures.kinds import is_search
from shine_exp.figures.networks import by_network, outcomes
from shine_exp.figures.read import read_traces
from shine_exp.runs.run import load_runs


def test_by_network_groups_by_all_that_is_not_of_the_method(add_network, results: Path) -> None:
    large = {"problem/model": "large", "data.path": "/where/images.npz"}
    add_network("refine", 0, [{}], differs={"outer.epochs": 4})
    add_network("refine", 1, [{}], differs={"outer.epochs": 4}, steps=10)
    add_network("refine", 1, [{}], differs={"outer.epochs": 4}, steps=9)
    add_network("opa", 0, [{}], differs={"outer.epochs": 4, "solver": "adjoint_broyden"})
    path = add_network("shine", 0, [{}], where=("mdeq", "image_folder"), differs=large) / "run.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps(info | {"choices": info["choices"] | {"problem/model": "large"}}))
    runs = load_runs(results)
    assert not any(map(is_search, runs))
    digits, images = by_network(runs)
    assert digits.title == "MDEQ, digits, 4 epochs"
    refined = [f"refine ({n} backward steps)" for n in (9, 10)]
    assert list(digits.runs) == ["opa (solver adjoint_broyden)", "refine", *refined]
    assert images.title == "MDEQ large, image folder, images.npz"


def test_outcomes_have_costs_after_pre_training_and_worth_of_the_last_epoch(
    add_network, results: Path
) -> None:
    costs = [
        (500, 50, 9),
        (400, 40, 8),
        (30, 3, 6),
        (10, 1, 5),
        (20, 7, 4),
    ]  # pre-training ends within the second
    rows = [{"forward_ms": f, "backward_ms": b, "products": p} for f, b, p in costs]
    rows[-1] |= {"accuracy": 0.75, "test_loss": 0.3, "spectral_radius": 1.5, "fell_back": 0.25}
    add_network("shine", 3, rows)
    add_network("shine", 4, rows, status="diverged")
    add_network("shine", 5, rows, status="interrupted")
    (row,) = outcomes(load_runs(results)).to_dict("records")
    costs_of = {name: row[name] for name in ("seed", "forward_ms", "backward_ms", "products")}
    assert costs_of == {"seed": 3, "forward_ms": 20, "backward_ms": 3, "products": 5}
    worth = {name: row[name] for name in ("accuracy", "test_loss", "spectral_radius", "fell_back")}
    assert worth == {"accuracy": 75, "test_loss": 0.3, "spectral_radius": 1.5, "fell_back": 0.25}


def test_outcomes_of_nothing_but_pre_training_have_no_costs(add_network, results: Path) -> None:
    add_network("jf", 0, [{}, {}])
    frame = outcomes(load_runs(results))
    assert math.isnan(frame["backward_ms"].item())
    assert frame["accuracy"].item() == 90


def test_outcomes_name_a_configuration_without_pretrain_steps(add_network, results: Path) -> None:
    folder = add_network("jf", 0, [{}])
    (folder / "config.yaml").write_text("seed: 0")
    with pytest.raises(
        UserError, match=r"config.yaml cannot be used: outer.pretrain_steps is missing"
    ):
        outcomes(load_runs(results))


@pytest.mark.parametrize(("old", "new"), [("backward_ms", "backwards"), ("20,4,", "20,1,")])
def test_read_traces_names_a_damaged_training_trace(
    add_network, results: Path, old: str, new: str
) -> None:
    path = add_network("jf", 0, [{}, {}]) / "trace.csv"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    (error,) = read_traces(load_runs(results)).refused
    assert re.search(
        r"trace.csv cannot be used: (it lacks: backward_ms|time has a gap or goes)", str(error)
    )

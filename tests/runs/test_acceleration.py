"""runtime.graph, runtime.compile and outer.precision: refused where nothing would read them."""

import json

import pytest
import yaml

SMALL = (
    *("problem=mdeq", "problem.architecture.channels=[4,8]", "problem.architecture.groups=2"),
    *("problem.architecture.head_channels=[2,2]", "problem.architecture.final_channels=8"),
    *("solver.max_steps=3", "problem.batch_size=224", "data.test_fraction=0.5"),
    *("outer.epochs=1", "outer.pretrain_steps=1", "outer.n_power_steps=0", "method=jf"),
)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("runtime.graph=on", "runtime.graph=on: a CUDA graph needs a GPU, and runtime.device=cpu"),
        ("runtime.graph=yes", "runtime.graph=yes: must be 'auto', 'on' or 'off'"),
        ("outer.precision=tf32", "outer.precision=tf32: only a GPU rounds so"),
        ("outer.precision=half", "must be 'float32', 'tf32' or 'bfloat16'"),
    ],
)
def test_acceleration_that_is_not_to_be_had_is_refused(
    shine_run, folders, override: str, says: str
) -> None:
    outcome = shine_run(*SMALL, override)
    assert outcome.code == 2
    assert says in outcome.err
    assert folders() == []


def test_compilation_of_no_network_is_refused(shine_run) -> None:
    outcome = shine_run("data=gaussian", "runtime.compile=on")
    assert outcome.code == 2
    assert "problem=logreg trains no network" in outcome.err


def test_acceleration_stands_in_run_json_and_is_no_part_of_the_run(shine_run, folders) -> None:
    shine_run(*SMALL, "runtime.graph=off")
    (folder,) = folders()
    (start,) = json.loads((folder / "run.json").read_text())["starts"]
    assert (start["graph"], start["compile"]) == ("off", "auto")
    assert "done already" in shine_run(*SMALL, "runtime.compile=off").out


def test_run_of_mixed_precision_is_known(shine_run, folders) -> None:
    """As versions before outer.precision have left it."""
    shine_run(*SMALL)
    (folder,) = folders()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["outer"].pop("precision") == "float32"
    config["outer"]["mixed_precision"] = False
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert "done already" in shine_run(*SMALL).out
    config["outer"]["mixed_precision"] = True
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    outcome = shine_run(*SMALL)
    assert outcome.code == 2
    assert "holds a run of another configuration" in outcome.err

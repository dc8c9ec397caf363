"""Every option of every group in conf/ composes, and what needs no network runs to its end."""

from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from shine_exp.identity import CONFIG_DIR, GROUPS

ONLINE = ("20news", "real_sim")
LARGE = ("synthetic_20news", "synthetic_real_sim")
STUDIES = ("inversion_quality", "theorem")
SEARCHES = ("bayes", "grid", "random")
PAPER = ("fig1", "fig2_left", "figE1", "figNLS")
STUDY_EXPERIMENTS = ("fig2_right", "fig_theorem")


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml") if not path.stem.startswith("_"))


def composed(*overrides: str):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("config", list(overrides), return_hydra_config=True)


@pytest.fixture
def ends_well(shine_run, folders, status, trace):
    def check(*overrides: str, n_steps: int = 2) -> None:
        outcome = shine_run(*overrides, f"outer.n_steps={n_steps}")
        assert (outcome.code, outcome.err) == (0, "")
        (folder,) = folders()
        assert status(folder) == "done"
        rows = trace(folder)
        assert int(rows.step.iloc[-1]) == n_steps
        if "outer_loss" in rows:
            assert rows.step.tolist() == [str(step) for step in range(n_steps + 1)]
            assert np.isfinite(rows.outer_loss.astype(float)).all()

    return check


def test_every_folder_of_conf_is_tested_here() -> None:
    folders = {path.name for path in CONFIG_DIR.iterdir() if path.is_dir()}
    assert folders == {*GROUPS, "experiment"}
    assert sorted(PAPER + STUDY_EXPERIMENTS) == sorted(options("experiment"))


def test_the_issue_s_methods_exist() -> None:
    named = "shine opa cg cg_limited lbfgs neumann jf full refine fallback unroll grid random bayes"
    assert set(named.split()) <= set(options("method"))


@pytest.mark.parametrize("problem", options("problem"))
@pytest.mark.parametrize("method", options("method"))
def test_every_method_on_every_problem(ends_well, method: str, problem: str) -> None:
    ends_well(f"problem={problem}", f"method={method}", n_steps=4 if method == "bayes" else 2)


@pytest.mark.parametrize("solver", options("solver"))
def test_every_solver(ends_well, solver: str) -> None:
    ends_well(f"solver={solver}", "method=cg")


@pytest.mark.parametrize("outer", options("outer"))
def test_every_outer_loop(ends_well, outer: str) -> None:
    ends_well(f"outer={outer}", *(["data=gaussian"] if outer in STUDIES else []))


@pytest.mark.parametrize("data", [name for name in options("data") if name not in (*ONLINE, *LARGE)])
def test_every_data_set_that_is_at_hand(ends_well, data: str, tmp_path: Path) -> None:
    more = []
    if data == "libsvm":
        rng = np.random.default_rng(0)
        rows = [f"{(-1) ** i} 1:{rng.normal():.3f} 3:{rng.normal():.3f}" for i in range(200)]
        (tmp_path / "mine.txt").write_text("\n".join(rows) + "\n")
        more = ["data.path=mine.txt"]
    ends_well(f"data={data}", *more)


@pytest.mark.parametrize("data", ONLINE + LARGE)
def test_other_data_sets_compose(data: str) -> None:
    config = composed(f"data={data}")
    assert config.hydra.runtime.choices["data"] == data
    assert config.data._target_.startswith("shine_exp.data.")


@pytest.mark.parametrize("experiment", STUDY_EXPERIMENTS)
def test_the_experiments_that_are_studies(ends_well, experiment: str) -> None:
    ends_well(f"experiment={experiment}", *(["data=gaussian"] if experiment == "fig_theorem" else []))


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_composes_and_sweeps_over_options_that_exist(experiment: str) -> None:
    config = composed(f"experiment={experiment}")
    params = config.hydra.sweeper.get("params") or {}
    if experiment in PAPER:
        assert {"problem", "data", "method", "seed"} == set(params)
    for key, values in params.items():
        if key == "seed":
            assert values.startswith("range(")
            continue
        for option in values.split(","):
            assert option in options(key)
            assert composed(f"experiment={experiment}", f"{key}={option}").hydra.runtime.choices[key] == option


@pytest.mark.parametrize("outer", SEARCHES)
def test_a_search_by_its_method_is_the_search_by_its_name(outer: str) -> None:
    by_method, by_outer = composed(f"method={outer}"), composed(f"method={outer}", f"outer={outer}")
    assert by_method.hydra.runtime.choices["outer"] == outer
    assert by_method.outer == by_outer.outer

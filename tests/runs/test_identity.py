import re
import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from shine_exp.errors import UserError
from shine_exp.runs.composition import CONFIG_DIR, default, hydra_for
from shine_exp.runs.identity import RunIdentity, identify


def identity(*overrides: str) -> RunIdentity:
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        choices = dict(
            compose("config", list(overrides), return_hydra_config=True).hydra.runtime.choices
        )
        return identify(compose("config", list(overrides)), choices)


@pytest.mark.parametrize("method", ["shine", "opa", "cg", "grid", "bayes", "unroll"])
def test_defaults_have_no_hash(method: str) -> None:
    run = identity(f"method={method}", "seed=3")
    assert run.differs == {}
    assert str(run.folder) == f"logreg-breast_cancer/{method}/seed=3"


def test_what_differs_is_named_and_hashed() -> None:
    run = identity("outer.n_steps=2", "solver.memory=5", "data=digits")
    assert run.differs == {"outer.n_steps": 2, "solver.memory": 5}
    assert re.fullmatch(r"logreg-digits/shine/seed=0-[0-9a-f]{8}", str(run.folder))
    assert run.config["solver"]["memory"] == 5
    assert run.folder != identity("outer.n_steps=3", "solver.memory=5", "data=digits").folder


@pytest.mark.parametrize(
    "override",
    ["threads=7", "device=cuda", "results=elsewhere", "checkpoint_every=1", "max_minutes=12"],
    ids=lambda text: text[:6],
)
def test_where_and_how_to_run_changes_nothing(override: str) -> None:
    assert identity(f"runtime.{override}") == identity()


@pytest.mark.parametrize(
    "data",
    [
        "20news data.data_home=elsewhere",
        "real_sim data.cache=elsewhere",
        "cifar10 data.cache=elsewhere",
    ],
)
def test_where_the_data_lies_changes_nothing(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    option, folder = data.split()
    monkeypatch.setenv("SHINE_EXP_CACHE", "somewhere")
    assert identity(f"data={option}", folder) == identity(f"data={option}")
    assert "where" not in str(identity(f"data={option}").config)


def test_a_default_that_is_typed_out_changes_nothing() -> None:
    assert identity("solver.memory=30", "outer.n_steps=30") == identity()


def test_the_model_of_a_network_is_named() -> None:
    assert identity("problem=mdeq", "seed=3").differs == {}
    run = identity("problem=mdeq", "problem/model=tiny", "outer.epochs=2")
    assert run.differs == {"problem/model": "tiny", "outer.epochs": 2}


def test_a_solver_of_another_name_differs_by_its_name() -> None:
    assert identity("solver=bfgs").differs == {"solver": "bfgs"}
    assert identity("solver=bfgs").choices["solver"] == "bfgs"


def test_what_differs_within_another_option_is_named_too() -> None:
    assert identity("solver=bfgs", "solver.max_steps=7").differs == {
        "solver": "bfgs",
        "solver.max_steps": 7,
    }
    assert identity("outer=grid", "outer.tol=0.1").differs == {"outer": "grid", "outer.tol": 0.1}


def test_an_experiment_differs_by_what_it_sets() -> None:
    differs = identity("experiment=fig2_right").differs
    assert (
        differs.items()
        >= {
            "outer": "inversion_quality",
            "solver": "lbfgs_60",
            "data.scaling": "variance",
            "data.fraction": 0.2,
        }.items()
    )


def test_what_was_deleted_differs() -> None:
    assert identity("~outer.slack").differs == {"outer.slack": None}


def test_the_seed_is_in_the_name_only() -> None:
    one, two = identity("seed=1", "outer.n_steps=2"), identity("seed=2", "outer.n_steps=2")
    assert one.differs == two.differs
    assert one.folder != two.folder


@pytest.mark.parametrize("seed", ["-1", "0.5", "abc", "true", "4294967296"])
def test_bad_seeds(seed: str) -> None:
    with pytest.raises(UserError, match=f"(?i)seed={seed}"):
        identity(f"seed={seed}")


def test_a_missing_value() -> None:
    with pytest.raises(UserError, match=r"data\.path"):
        identity("data=libsvm")


OLD_RUNS = Path(__file__).parent / "old_run"
OLD_COMMANDS = {
    "seed=3": ("method=jf", "seed=3"),
    "seed=3-*": ("method=jf", "seed=3", "solver=bfgs", "outer.n_steps=2", "outer.slack=0.5"),
}


@pytest.mark.parametrize("name", OLD_COMMANDS)
def test_key_added_with_its_default_leaves_an_older_run_the_same(
    shine_run, tmp_path: Path, name: str
) -> None:
    shutil.copytree(OLD_RUNS, tmp_path / "results")
    outcome = shine_run(*OLD_COMMANDS[name])
    assert (outcome.code, outcome.err) == (0, "")
    assert "done already" in outcome.out
    (folder,) = (tmp_path / "results" / "logreg-breast_cancer" / "jf").glob(name)
    assert f"{folder.relative_to(tmp_path)}: " in outcome.out


def test_run_of_a_version_whose_keys_stood_elsewhere_is_the_same() -> None:
    """Those of the optimiser and its schedule were keys of the loop; bfloat16 was a flag."""
    ours = identity("problem=mdeq", "seed=3")
    earlier = {**ours.config, "outer": dict(ours.config["outer"])}
    optimiser, schedule = earlier["outer"].pop("optimiser"), earlier["outer"].pop("schedule")
    earlier["outer"]["learning_rate"] = optimiser["learning_rate"]
    earlier["outer"]["final_learning_rate"] = schedule["final_learning_rate"]
    del earlier["outer"]["precision"]
    earlier["outer"]["mixed_precision"] = False
    assert ours.is_of(earlier)
    assert str(ours.folder) == "mdeq-digits_images/shine/seed=3"
    assert not identity("problem=mdeq", "seed=3", "outer/optimiser=sgd").is_of(earlier)
    earlier["outer"]["learning_rate"] = 0.5
    assert not ours.is_of(earlier)


def test_optimiser_and_schedule_differ_by_their_names() -> None:
    run = identity("problem=mdeq", "outer/optimiser=sgd", "outer.optimiser.momentum=0.5")
    assert run.differs == {"outer/optimiser": "sgd", "outer.optimiser.momentum": 0.5}
    assert identity("problem=mdeq", "outer/schedule=one_cycle").differs == {
        "outer/schedule": "one_cycle"
    }


def test_key_added_with_another_value_is_another_run(shine_run, tmp_path: Path) -> None:
    shutil.copytree(OLD_RUNS, tmp_path / "results")
    command = (*OLD_COMMANDS["seed=3-*"], "outer.schedule.decrease=0.5")
    assert "done after" in shine_run(*command).out


def test_run_that_lacks_a_whole_group_is_another_one() -> None:
    run = identity()
    assert run.is_of(run.config)
    assert not run.is_of({})
    assert not run.is_of({name: run.config[name] for name in run.config if name != "method"})
    assert not run.is_of(run.config | {"method": {}})


def test_hash_does_not_see_what_is_at_its_default() -> None:
    """As a key that a later version adds would be."""
    run = identity("outer.n_steps=2")
    later = dict(run.config, solver=run.config["solver"] | {"damping": {"kind": "none"}})
    assert RunIdentity(run.choices, run.seed, later, run.differs).folder == run.folder


def test_defaults_of_a_user_s_own_folder_are_read_anew(tmp_path: Path) -> None:
    """Those of conf/ are kept for the process; another folder may change between two runs."""
    (tmp_path / "method").mkdir()
    found = []
    for n_terms in (3, 7):
        text = f"# @package _global_\nmethod: {{n_terms: {n_terms}}}\n"
        (tmp_path / "method" / "mine.yaml").write_text(text)
        with hydra_for(tmp_path):
            found.append(default(["method=mine"]).config.method.n_terms)
    assert found == [3, 7]

"""Every option of every group in conf/ composes, and what needs no network runs to its end."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from shine_exp.deq.layer import DEQ
from shine_exp.runs import composition
from shine_exp.runs.composition import CONFIG_DIR, CONFIG_GROUPS, hydra_for
from shine_exp.solvers.broyden import Broyden
from shine_exp.training.images.mdeq import MDEQ

ONLINE = ("20news", "20news_classes", "real_sim", "cifar10", "cifar10_split")
IMAGES = ("digits_images", "image_folder", "image_folder_split")
MULTICLASS = ("digits_classes", "turned_digits")
LARGE = ("synthetic_20news", "synthetic_real_sim")
NONE = ("none",)
LINEAR = ("logreg", "nls")
DIRECT = ("first_order",)  # for an outer loss that depends on α directly
MDEQ_MODELS = ("large", "micro", "tiny")
SMALL = {  # of each problem with many outer variables
    "softmax": ("problem.train=0.1", "problem.outer=0.1", "problem.bound=2.0"),
    "cleaning": ("problem.n_train=100", "problem.n_outer=100"),
    "augment": ("data.n_train=30", "problem.n_copies=1", "problem.penalty=0.3"),
    "architecture": ("problem.table=false", "problem.n_train=20", "problem.penalty=0.1"),
}
LINEAR_METHODS = (
    "cg",
    "cg_limited",
    "lbfgs",
    "nystrom",
    "grid",
    "random",
    "bayes",
)  # refused for a network
STUDIES = ("inversion_quality", "theorem")
SEARCHES = ("bayes", "grid", "random")
PAPER = ("fig1", "fig2_left", "figE1", "figNLS")
GROUPED = ("fig_groups", "fig_softmax")
MANY = ("fig_architecture", "fig_augment", "fig_cleaning", "fig_outer")
STUDY_EXPERIMENTS = ("fig2_right", "fig_theorem")
NETWORK_EXPERIMENTS = ("fig3", "figE2", "fig_sudoku", "advise")
RECIPES = ("tiny_short", "large_short", "large_sgd")
NETWORK_LOOPS = ("train", "network_inversion", "advise")
SMALL_SUDOKU = ("problem.n_train=64", "problem.n_test=8", "problem.cell.width=16")


def options(group: str) -> list[str]:
    return sorted(
        path.stem for path in (CONFIG_DIR / group).glob("*.yaml") if not path.stem.startswith("_")
    )


def solvers(finds: str) -> list[str]:
    return [
        name
        for name in options("solver")
        if instantiate(composed(f"solver={name}").solver).finds == finds
    ]


def composed(*overrides: str):
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("config", list(overrides), return_hydra_config=True)


@pytest.fixture
def ends_well(shine_run, folders, status, trace):
    """A linear model runs to its end in so many outer steps."""

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


@pytest.fixture
def trains(shine_run, folders, status, trace):
    """A network trains for one epoch of a few steps, the first of them unrolled."""

    def check(*overrides: str) -> None:
        outcome = shine_run(
            "problem=mdeq",
            "outer.epochs=1",
            "problem.batch_size=350",
            "outer.pretrain_steps=1",
            *overrides,
        )
        assert (outcome.code, outcome.err) == (0, "")
        (folder,) = folders()
        assert status(folder) == "done"
        (row,) = trace(folder).astype(float, errors="ignore").to_dict("records")
        assert np.isfinite(
            [float(row[name]) for name in ("train_loss", "test_loss", "gradient_norm")]
        ).all()

    return check


def test_every_folder_of_conf_is_tested_here() -> None:
    folders = {str(path.parent.relative_to(CONFIG_DIR)) for path in CONFIG_DIR.rglob("*/*.yaml")}
    assert folders == {
        *CONFIG_GROUPS,
        "experiment",
        "hydra/launcher",
        "method/for_loop",
        "method/for_problem",
        "method/for_problem/backward_steps",
        "outer/for_problem",
        "outer/for_problem/training",
        "outer/hypergradient",
        "outer/optimiser",
        "outer/preferred",
        "outer/schedule",
        "problem/cell",
        "problem/grid",
        "problem/model",
        "tracker",
    }
    sweeps = PAPER + GROUPED + MANY + STUDY_EXPERIMENTS + NETWORK_EXPERIMENTS + RECIPES
    assert sorted(sweeps) == sorted(options("experiment"))


def test_the_paper_s_methods_exist() -> None:
    named = "shine opa cg cg_limited lbfgs neumann jf full refine fallback unroll grid random bayes"
    assert set(named.split()) <= set(options("method"))


@pytest.mark.parametrize("problem", LINEAR)
@pytest.mark.parametrize("method", sorted({*options("method")} - {*DIRECT}))
def test_every_method_on_every_linear_model(ends_well, method: str, problem: str) -> None:
    ends_well(f"problem={problem}", f"method={method}", n_steps=4 if method == "bayes" else 2)


@pytest.mark.parametrize("problem", SMALL)
@pytest.mark.parametrize("method", options("method"))
def test_every_method_on_every_problem_of_many_variables(
    ends_well, shine_run, folders, method: str, problem: str
) -> None:
    overrides = (f"problem={problem}", f"method={method}", *SMALL[problem])
    if method in SEARCHES and problem == "cleaning":
        outcome = shine_run(*overrides)
        assert outcome.code == 2
        says = "a search needs a box to search in, and the bounds of Cleaning are not finite"
        assert outcome.err.startswith(f"shine-run: {says}")
        assert (outcome.err.count("\n"), folders()) == (1, [])
        return
    if method in DIRECT and problem != "architecture":
        outcome = shine_run(*overrides)
        assert (outcome.code, outcome.err.count("\n"), folders()) == (2, 1, [])
        assert "depends on α by θ* alone: take another method" in outcome.err
        return
    ends_well(*overrides, n_steps=4 if method == "bayes" else 2)


@pytest.mark.parametrize("method", sorted({*options("method")} - {*LINEAR_METHODS, *DIRECT, "opa"}))
def test_every_method_that_trains_a_network(trains, method: str) -> None:
    trains(f"method={method}")


@pytest.mark.parametrize("cell", options("problem/cell"))
def test_every_cell_of_sudoku_trains(shine_run, folders, status, cell: str) -> None:
    overrides = ("problem=sudoku", f"problem/cell={cell}", "method=refine", *SMALL_SUDOKU)
    outcome = shine_run(*overrides, "outer.epochs=1")
    assert (outcome.code, outcome.err) == (0, "")
    (folder,) = folders()
    assert status(folder) == "done"


def test_sudoku_of_81_cells_trains_a_step(shine_run, folders, status) -> None:
    sizes = ("problem.n_train=2", "problem.n_test=1", "problem.batch_size=2", "solver.max_steps=2")
    more = ("outer.epochs=1", "problem.longer_steps=2", "problem.exact_steps=2")
    outcome = shine_run("problem=sudoku", "problem/grid=9x9", "method=jf", *sizes, *more)
    assert (outcome.code, outcome.err) == (0, "")
    (folder,) = folders()
    assert status(folder) == "done"


def test_opa_trains_a_network_with_the_solver_that_takes_it(trains) -> None:
    trains("method=opa", "solver=adjoint_broyden")


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(method, marks=() if method in ("cg", "grid") else pytest.mark.slow)
        for method in LINEAR_METHODS
    ],
)
def test_other_methods_are_refused_for_a_network(shine_run, folders, method: str) -> None:
    outcome = shine_run("problem=mdeq", f"method={method}")
    assert outcome.code == 2
    assert outcome.err.startswith(
        f"shine-run: problem=mdeq outer=train solver=broyden method={method}: "
    )
    assert (outcome.err.count("\n"), folders()) == (1, [])


@pytest.mark.parametrize("solver", solvers("minimum"))
def test_every_solver_of_a_linear_model(ends_well, solver: str) -> None:
    ends_well(f"solver={solver}", "method=cg")


@pytest.mark.parametrize("solver", solvers("root"))
def test_every_solver_of_a_network(trains, solver: str) -> None:
    trains(f"solver={solver}", "method=jf")


@pytest.mark.parametrize("model", MDEQ_MODELS)
def test_every_model_s_sizes_fit_together(model: str) -> None:
    """A network for 32 × 32 images of three channels, one image through it."""
    config = composed("problem=mdeq", f"problem/model={model}")
    network = MDEQ(
        instantiate(config.problem.architecture),
        3,
        10,
        lambda cell: DEQ(cell, Broyden(max_steps=1), None),
    )
    with torch.no_grad():
        assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_models_are_those_of_networks_and_of_augment(shine_run, folders) -> None:
    assert {*options("problem/model")} - {*MDEQ_MODELS} == {"convnet", "linear", "mlp"}
    assert composed("problem=augment").hydra.runtime.choices["problem/model"] == "linear"
    for override in ("problem=mdeq problem/model=mlp", "problem=augment problem/model=tiny"):
        outcome = shine_run(*override.split())
        assert (outcome.code, outcome.err.count("\n"), folders()) == (2, 1, [])


def test_the_micro_model_is_the_default_and_trains(trains) -> None:
    assert composed("problem=mdeq").hydra.runtime.choices["problem/model"] == "micro"
    trains()


def test_what_a_method_changes_for_a_loop_or_a_problem_is_used() -> None:
    """Each file's name is that of a loop or a problem, and of a method."""
    pairs = {
        "method/for_loop": ("outer", ["problem=mdeq"]),
        "method/for_problem": ("problem", []),
    }
    for group, (other, more) in pairs.items():
        named = {
            f"{one}_{method}": (one, method)
            for one in options(other)
            for method in options("method")
        }
        for file in options(group):
            one, method = named[file]
            config = composed(*more, f"{other}={one}", f"method={method}")
            assert config.hydra.runtime.choices[group] == file


def test_what_a_problem_changes_in_a_loop_is_used() -> None:
    for file in options("outer/for_problem"):
        problem, _, outer = file.partition("_")
        assert chosen(f"problem={problem}", f"outer={outer}")["outer/for_problem"] == file


@pytest.mark.parametrize(("model", "steps"), [("micro", 14), ("tiny", 24), ("large", 20)])
def test_a_network_s_full_backward_pass_has_the_published_steps(model: str, steps: int) -> None:
    config = composed("problem=mdeq", f"problem/model={model}", "method=full")
    assert config.method.max_steps == steps
    assert composed("problem=mdeq", f"problem/model={model}").solver.max_steps == steps - 2


@pytest.mark.parametrize("outer", [name for name in options("outer") if name not in NETWORK_LOOPS])
def test_every_outer_loop(ends_well, outer: str) -> None:
    more = ["data=gaussian"] if outer in STUDIES else ["method=unroll"] if outer == "unroll" else []
    ends_well(f"outer={outer}", *more)


@pytest.mark.parametrize(
    "data",
    [
        name
        for name in options("data")
        if name not in (*ONLINE, *LARGE, *IMAGES, *MULTICLASS, *NONE)
    ],
)
def test_every_data_set_that_is_at_hand(ends_well, data: str, tmp_path: Path) -> None:
    more = []
    if data == "libsvm":
        rng = np.random.default_rng(0)
        rows = [f"{(-1) ** i} 1:{rng.normal():.3f} 3:{rng.normal():.3f}" for i in range(200)]
        (tmp_path / "mine.txt").write_text("\n".join(rows) + "\n")
        more = ["data.path=mine.txt"]
    ends_well(f"data={data}", *more)


@pytest.mark.parametrize("data", ["digits_classes", "breast_cancer", "gaussian"])
def test_data_sets_of_a_problem_with_classes(ends_well, data: str) -> None:
    ends_well("problem=softmax", f"data={data}")


@pytest.mark.parametrize("data", ONLINE + LARGE)
def test_other_data_sets_compose(data: str) -> None:
    config = composed(f"data={data}")
    assert config.hydra.runtime.choices["data"] == data
    assert config.data._target_.startswith("shine_exp.data.")


@pytest.mark.parametrize("experiment", STUDY_EXPERIMENTS)
def test_the_experiments_that_are_studies(ends_well, experiment: str) -> None:
    ends_well(
        f"experiment={experiment}", *(["data=gaussian"] if experiment == "fig_theorem" else [])
    )


@pytest.mark.parametrize("experiment", RECIPES)
@pytest.mark.parametrize("method", ["shine", "full", "phantom"])
def test_every_recipe_is_for_any_method(shine_run, experiment: str, method: str) -> None:
    """Its keys are those of the objects that read them, whatever the method."""
    command = (f"experiment={experiment}", f"method={method}", "runtime.dry_run=true")
    outcome = shine_run(*command)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"results/mdeq-cifar10/{method}/seed=0-")


def test_the_recipe_by_sgd_is_the_published_one() -> None:
    config = composed("experiment=large_sgd")
    assert config.outer.optimiser == {
        "_target_": "shine_exp.training.optimisers.SGD",
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 1e-4,
    }
    assert (config.outer.pretrain_steps, config.outer.epochs) == (0, 220)
    assert (config.method.n_terms + 1, config.method.scale) == (5, 0.5)


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_composes_and_sweeps_over_options_that_exist(experiment: str) -> None:
    config = composed(f"experiment={experiment}")
    params = config.hydra.sweeper.get("params") or {}
    if experiment in PAPER:
        assert {"problem", "data", "method", "seed"} == set(params)
    if experiment in GROUPED:
        assert "problem.groups" in params or "problem.penalties" in params
    for key, values in params.items():
        if key == "seed":
            assert values.startswith("range(")
            continue
        if key.startswith("problem."):
            for value in values.split(","):
                there = composed(f"experiment={experiment}", f"{key}={value}")
                assert str(OmegaConf.select(there, key)) == value
            continue
        for option in values.split(","):
            assert option in options(key)
            assert (
                composed(f"experiment={experiment}", f"{key}={option}").hydra.runtime.choices[key]
                == option
            )


@pytest.mark.parametrize("outer", SEARCHES)
def test_a_search_by_its_method_is_the_search_by_its_name(outer: str) -> None:
    by_method, by_outer = composed(f"method={outer}"), composed(f"method={outer}", f"outer={outer}")
    assert by_method.hydra.runtime.choices["outer"] == outer
    assert by_method.outer == by_outer.outer


def chosen(*overrides: str) -> dict[str, str]:
    return composed(*overrides).hydra.runtime.choices


def test_method_brings_its_solver_and_loop() -> None:
    assert chosen("method=cg").items() >= {"solver": "lbfgs_10", "outer": "hoag"}.items()
    assert chosen("method=shine").items() >= {"solver": "lbfgs", "outer": "descent"}.items()
    opa = composed("method=opa")
    assert opa.hydra.runtime.choices["solver"] == "lbfgs_60"
    assert (opa.solver.memory, opa.solver.opa) == (60, "countdown")


@pytest.mark.parametrize(
    ("overrides", "group", "option"),
    [
        ("method=cg solver=bfgs", "solver", "bfgs"),
        ("method=opa solver=lbfgs", "solver", "lbfgs"),
        ("method=cg outer=theorem", "outer", "theorem"),
        ("method=grid outer=random", "outer", "random"),
        ("problem=mdeq method=cg", "outer", "train"),
        ("problem=mdeq method=full", "solver", "broyden"),
        ("problem=mdeq method=full solver=anderson", "solver", "anderson"),
        ("problem=mdeq data=cifar10", "data", "cifar10"),
        ("problem=nls data=digits", "data", "digits"),
        ("experiment=fig2_right outer=theorem", "outer", "theorem"),
        ("experiment=fig2_right method=cg", "solver", "lbfgs_60"),
        ("experiment=figE2 method=cg", "outer", "network_inversion"),
        ("problem=cleaning", "outer", "adam"),
        ("problem=cleaning method=cg", "outer", "adam"),
        ("problem=cleaning method=cg", "solver", "lbfgs_10"),
        ("problem=cleaning method=random", "outer", "random"),
        ("problem=cleaning method=unroll", "outer", "unroll"),
        ("problem=cleaning method=cg outer=hoag", "outer", "hoag"),
    ],
)
def test_command_wins_then_experiment_then_problem_then_method_then_what_they_prefer(
    overrides: str, group: str, option: str
) -> None:
    assert chosen(*overrides.split())[group] == option


KEY = re.compile(r"( *)(?:- )?(\w+):(?: .*)?$")
PARTS = (
    "_target_",
    "_convert_",
    "defaults",
    "hydra",
    "architecture",
    *CONFIG_GROUPS,
)  # said by the file's title


def lines_without_a_sentence(path: Path) -> list[str]:
    """Keys with no comment above or beside them; those of Hydra and of a table in braces are not
    asked.
    """
    lines = path.read_text().splitlines()
    bare, skipped = [], None
    for before, line in zip(["", *lines], lines, strict=False):
        if (key := KEY.match(line.split(" #")[0])) is None:
            continue
        indent = len(key[1])
        if skipped is not None and indent > skipped:
            continue
        skipped = indent if key[2] in ("defaults", "hydra", "others") else None
        told = before.lstrip().startswith("#") or " #" in line
        if key[2] not in PARTS and not told:
            bare.append(line)
    return bare


@pytest.mark.parametrize(
    "path", sorted(CONFIG_DIR.rglob("*.yaml")), ids=lambda path: str(path.relative_to(CONFIG_DIR))
)
def test_every_key_has_a_sentence(path: Path) -> None:
    assert path.read_text().startswith("#"), "what the option is"
    assert lines_without_a_sentence(path) == []


@pytest.mark.parametrize("group", ["data", "solver"])
def test_option_read_by_its_files_is_what_is_composed(group: str) -> None:
    with hydra_for() as hydra:
        for name in options(group):
            node = composition._by_its_files(hydra, group, name)
            whole = composition.compose(hydra, [f"{group}={name}"])[group]
            assert OmegaConf.to_container(node, resolve=False) == OmegaConf.to_container(
                whole, resolve=False
            )
        assert composition._by_its_files(hydra, "method", "cg") is None
        assert composition._by_its_files(hydra, "outer", "unroll") is None

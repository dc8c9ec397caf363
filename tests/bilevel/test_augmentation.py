"""The ranges of an augmentation: hypergradient, columns, resuming, refusals."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from differences import finite_differences, solved
from PIL import Image

from shine_exp.bilevel.hypergradients import Implicit
from shine_exp.bilevel.loops.descent import Descent
from shine_exp.bilevel.loops.schedule import Schedule
from shine_exp.bilevel.problems.augmentation.classifiers import Classifier, Linear, TanhNetwork
from shine_exp.bilevel.problems.augmentation.problem import Augment, augment
from shine_exp.data.affine import NAMES, Ranges
from shine_exp.data.multiclass import MulticlassSplits
from shine_exp.data.sets.turned_digits import turned_digits
from shine_exp.errors import UserError
from shine_exp.inverse.full import Full
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.lbfgs import LBFGS

DATA = turned_digits(0, 40, 60, Ranges(45, 1, 1, 0, 0))
START = Ranges(20.0, 0.5, 0.4, 0.1, 0.2)


def problem(model: Classifier | None = None, per_class: bool = False, **changes) -> Augment:
    settings = {"data": DATA, "seed": 0, "device": "cpu", "start": START, "n_copies": 2}
    settings |= {"penalty": 0.1} | changes
    return augment(model=model or Linear(), per_class=per_class, **settings)


@pytest.mark.parametrize("model", [Linear(), TanhNetwork(3)], ids=["linear", "tanh"])
def test_hypergradient_equals_finite_differences(model: Classifier) -> None:
    made = problem(model)
    alpha, theta = made.start()
    at = solved(made, alpha, theta)
    value = Implicit(Full(factor=1.0))(made, at, 1e-13).value
    # Short steps: a map moves some pixels over the edges of others, where F has kinks.
    expected = finite_differences(made, at, 1e-5)
    assert (value - expected).norm() <= 1e-5 * expected.norm()


def test_hypergradient_of_one_set_is_the_sum_over_classes() -> None:
    """At equal ranges, to which the chain rule applies: α_c = α for each class c."""
    values = {}
    for per_class in (False, True):
        made = problem(per_class=per_class)
        at = solved(made, *made.start())
        values[per_class] = Implicit(Full(factor=1.0))(made, at, 1e-13).value
    assert values[True].shape == (10, 5)
    torch.testing.assert_close(values[True].sum(dim=0), values[False], rtol=1e-6, atol=1e-9)


def test_augmented_images_follow_alpha_and_are_kept_for_one() -> None:
    made = problem()
    alpha, _ = made.start()
    first = made.augmented(alpha)
    assert first.shape == (80, 1, 8, 8)
    assert made.augmented(alpha.clone()) is first
    other = made.augmented(alpha + 0.1)
    assert not torch.equal(other, first)
    assert torch.equal(made.augmented(alpha), first)
    assert made.augmented(alpha.clone().requires_grad_()).requires_grad


def test_per_class_ranges_move_the_images_of_their_class_alone() -> None:
    made = problem(per_class=True)
    alpha, _ = made.start()
    moved = alpha.clone()
    moved[3] += 1.0
    _, labels = DATA.train
    changed = (made.augmented(moved) != made.augmented(alpha)).flatten(1).any(dim=1)
    assert changed.tolist() == np.tile(labels == 3, 2).tolist()


def test_columns_are_the_ranges_in_degrees_and_pixels() -> None:
    one, each = problem(), problem(per_class=True)
    row = one.evaluate(*one.start())
    assert one.columns == ("outer_loss", "test_loss", "accuracy", *NAMES)
    assert [row[name] for name in NAMES] == pytest.approx([20.0, 0.5, 0.4, 0.1, 0.2])
    alpha, theta = each.start()
    alpha[:5, 0] += np.log(2)
    row = each.evaluate(alpha, theta)
    assert (row["rotation_0"], row["rotation_9"]) == pytest.approx((40.0, 20.0))
    assert row["rotation"] == pytest.approx(30.0)
    assert one.facts == {
        "n_train": 40,
        "n_outer": 60,
        "n_test": 1697,
        "n_copies": 2,
        "n_weights": 650,
    }


def test_descent_recovers_a_planted_rotation() -> None:
    data = turned_digits(0, 300, 300, Ranges(45, 0, 0, 0, 0))
    start = Ranges(10.0, 0.01, 0.01, 0.01, 0.01)
    made = problem(data=data, start=start, penalty=1e-2)
    descent = Descent(LBFGS(), Implicit(Full()), Schedule("exponential", 1e-3, 0.78), n_steps=12)
    state = descent.init(made, 0)
    for _ in range(12):
        state = descent.step(made, state)
    assert made.evaluate(state.alpha, state.theta)["rotation"] == pytest.approx(45, rel=0.2)


def test_descent_resumes_to_the_bit() -> None:
    descent = Descent(LBFGS(), Implicit(Shine()), Schedule("exponential", 1e-3, 0.78), n_steps=6)
    state = descent.init(problem(), 0)
    for _ in range(3):
        state = descent.step(problem(), state)
    loaded = descent.load_state_dict(problem(), state.state_dict())
    for _ in range(3):
        state, loaded = descent.step(problem(), state), descent.step(problem(), loaded)
    assert torch.equal(state.alpha, loaded.alpha)
    assert state.row() == loaded.row()


def test_images_of_a_folder_with_a_convolutional_network(
    shine_run, folders, status, tmp_path: Path
) -> None:
    drawn = np.random.default_rng(0)
    for part, label, number in product(("train", "test"), "abc", range(10)):
        path = tmp_path / "mine" / part / label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = drawn.integers(0, 256, (8, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    where = (f"data.images.path={tmp_path / 'mine'}", f"data.images.cache={tmp_path / 'cache'}")
    sizes = ("data.images.subset=24", "data.images.test_subset=9", "data.n_train=12")
    outcome = shine_run(
        *("problem=augment", "data=image_folder_split", *where, *sizes, "data.n_outer=9"),
        *("problem/model=convnet", "problem.model.width=2", "outer.n_steps=2"),
    )
    assert (outcome.code, outcome.err) == (0, "")
    (folder,) = folders()
    assert status(folder) == "done"


def test_refusals() -> None:
    with pytest.raises(UserError, match=r"problem.start.shear=0: α is the logarithm"):
        problem(start=Ranges(20.0, 0.5, 0.5, 0.1, 0.0))
    with pytest.raises(UserError, match=r"problem.start.shift_y=4.5: take from 0 to 4 pixels"):
        problem(start=Ranges(20.0, 0.5, 4.5, 0.1, 0.1))
    parts = (DATA.train, DATA.outer, DATA.test)
    with pytest.raises(UserError, match="rows: problem=augment takes images"):
        problem(data=MulticlassSplits(*parts, "rows"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.ranges.rotation=200", "data.ranges.rotation=200: must be less than or equal to 180"),
        ("data.ranges.shift_x=5", "data.ranges.shift_x=5: take from 0 to 4 pixels, half an image"),
        ("problem.start.log_scale=2", "problem.start.log_scale=2: must be less than or equal to 1"),
        ("problem.start.shift_x=5", "problem.start.shift_x=5: take from 0 to 4 pixels, half an im"),
        ("data.n_train=5", "class"),
        ("data=digits_images", "problem=augment cannot use data=digits_images"),
    ],
)
def test_bad_input_is_refused_in_one_line(shine_run, folders, override: str, message: str) -> None:
    outcome = shine_run("problem=augment", override)
    assert (outcome.code, outcome.err.count("\n"), folders()) == (2, 1, [])
    assert message in outcome.err

"""The problem of the 125 networks: hypergradient, table, resuming, refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch
from differences import solved

from shine_exp.bilevel.hypergradients import Implicit
from shine_exp.bilevel.loops.descent import Descent
from shine_exp.bilevel.loops.schedule import Schedule
from shine_exp.bilevel.problems.architecture.network_table import (
    COLUMNS,
    OURS,
    choices,
    one_hot,
    read_rows,
    read_table,
    simplest,
    write_row,
)
from shine_exp.bilevel.problems.architecture.problem import Architecture, architecture, chosen
from shine_exp.bilevel.problems.architecture.supernet import CONV, NONE, POOL
from shine_exp.data.multiclass import MulticlassDataset
from shine_exp.data.sets.bundled import digits_classes
from shine_exp.errors import UserError
from shine_exp.inverse.first_order import FirstOrder
from shine_exp.inverse.full import Full
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.lbfgs import LBFGS


def problem(**changes) -> Architecture:
    settings = {"data": digits_classes("none"), "seed": 0, "device": "cpu", "n_train": 60}
    settings |= {"n_outer": 80, "width": 2, "penalty": 0.05, "price": 0.0, "table": False}
    return architecture(**(settings | changes))


def table_file(tmp_path: Path, setting: str, leave_out: int = 0) -> str:
    """A table in which a network's loss is its number, but 0.5 with 3 × 3 everywhere."""
    path = tmp_path / "table.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(COLUMNS) + "\n")
        for number, choice in enumerate(choices()):
            if number >= leave_out:
                loss = 0.5 if choice == (CONV, CONV, CONV) else float(number)
                write_row(file, setting, choice, loss, accuracy=0.5)
    return str(path)


def test_hypergradient_equals_finite_differences() -> None:
    made = problem(price=0.3, width=1, penalty=0.005)
    alpha, theta = made.start()
    drawn = torch.Generator().manual_seed(0)
    alpha = torch.randn(alpha.shape, dtype=alpha.dtype, generator=drawn)
    alpha[:, CONV] += 2.0  # a network that learns something, with no curvature near 0
    at = solved(made, alpha, theta)
    value = Implicit(Full(factor=1.0))(made, at, 1e-13).value
    along = torch.randn(alpha.shape, dtype=alpha.dtype, generator=drawn)
    h = 1e-4
    above, below = (solved(made, alpha + sign * h * along, at.theta) for sign in (1, -1))
    expected = (above.outer.value - below.outer.value) / (2 * h)
    assert float((value * along).sum()) == pytest.approx(expected, rel=1e-5)


def test_first_order_is_the_direct_part_of_the_hypergradient() -> None:
    made = problem(price=0.3)
    alpha, theta = made.start()
    at = solved(made, alpha, theta, tol=1e-3)
    found = Implicit(FirstOrder())(made, at, 1e-3)
    assert at.outer.direct is not None
    assert torch.equal(found.value, at.outer.direct)
    assert (found.n_products, found.solved) == (0, True)


def test_price_is_the_share_of_the_weights() -> None:
    free, priced = problem(), problem(price=0.3)
    theta = free.theta0
    for choice, share in (((CONV,) * 3, 1.0), ((NONE,) * 3, 0.0), ((CONV, NONE, POOL), 1 / 3)):
        added = priced.priced_loss(one_hot(choice), theta) - free.priced_loss(
            one_hot(choice), theta
        )
        assert float(added) == pytest.approx(0.3 * share)


def test_rank_counts_networks_that_are_strictly_better(tmp_path: Path) -> None:
    path = table_file(tmp_path, problem().setting)
    table = read_table(Path(path), problem().setting)
    assert table.rank((NONE, NONE, NONE)) == 1
    assert table.rank((CONV, CONV, CONV)) == 2
    assert table.rank((POOL, POOL, POOL)) == 125
    assert table.regret((POOL, POOL, POOL)) == 124.0


def test_columns_have_rank_and_regret_of_the_choice(tmp_path: Path) -> None:
    made = problem(table=table_file(tmp_path, problem().setting))
    alpha, theta = made.start()
    assert chosen(alpha) == (NONE, NONE, NONE)
    alpha[:, CONV] = 1.0
    row = made.evaluate(alpha, theta)
    assert made.columns == ("outer_loss", "test_loss", "accuracy", "rank", "regret")
    assert (row["rank"], row["regret"]) == (2, 0.5)
    assert problem().columns == ("outer_loss", "test_loss", "accuracy")
    assert made.facts["rank_conv3x3"] == 2
    assert made.facts["regret_random"] == pytest.approx((sum(range(125)) - 93 + 0.5) / 125)


@pytest.mark.parametrize("seed", range(5))
def test_committed_table_belongs_to_the_default_setting(seed: int) -> None:
    made = problem(seed=seed, n_train=300, n_outer=600, width=4, penalty=0.003, table=True)
    rows = read_rows(OURS, made.setting)
    assert len(rows) == 125
    assert all(rows[choice] == rows[simplest(choice)] for choice in choices())


def test_descent_resumes_to_the_bit() -> None:
    descent = Descent(LBFGS(), Implicit(Shine()), Schedule("exponential", 1e-2, 1.0), n_steps=6)
    state = descent.init(problem(), 0)
    for _ in range(3):
        state = descent.step(problem(), state)
    loaded = descent.load_state_dict(problem(), state.state_dict())
    for _ in range(3):
        state, loaded = descent.step(problem(), state), descent.step(problem(), loaded)
    assert torch.equal(state.alpha, loaded.alpha)
    assert state.row() == loaded.row()


def test_refuses_a_table_without_all_networks(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lacks 125 of the networks of this seed.*table=false"):
        problem(table=True)
    with pytest.raises(UserError, match="lacks 2 of the networks"):
        problem(table=table_file(tmp_path, problem().setting, leave_out=2))
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"mine.csv: is no table of networks"):
        problem(table=str(tmp_path / "mine.csv"))
    with pytest.raises(UserError, match=r"none.csv: is no table of networks"):
        problem(table=str(tmp_path / "none.csv"))


@pytest.mark.parametrize("shape", [None, (2, 4, 8), (1, 4, 16), (1, 18, 18)])
def test_refuses_what_is_no_small_grey_image(shape: tuple[int, int, int] | None) -> None:
    n_pixels = 64 if shape is None else int(np.prod(shape))
    labels = np.arange(60) % 3
    data = MulticlassDataset(np.ones((60, n_pixels)), labels, "mine", shape=shape)
    with pytest.raises(UserError, match="takes square grey images of at most 16 × 16 pixels"):
        problem(data=data, n_train=20, n_outer=20)

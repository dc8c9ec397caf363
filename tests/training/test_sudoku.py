"""Sudoku as a task: its cells, what is measured, and that it is learnt and goes on as it was."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from test_task import TRAIN, trained
from torch import Tensor

from shine_exp.deq import DEQ
from shine_exp.errors import UserError
from shine_exp.inverse.full import Full
from shine_exp.inverse.jacobian_free import JacobianFree
from shine_exp.inverse.refine import Refine
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.broyden import Broyden
from shine_exp.training.sudoku.cells import Block, InjectedCell, PostCell
from shine_exp.training.sudoku.exact import exact, input_gradient, with_more_steps
from shine_exp.training.sudoku.sudoku import Sudoku

REFINED = Refine(Shine(), Full(factor=1.0, max_steps=3))


def sudoku(cell: type[Block] = PostCell, seed: int = 0, **changes) -> Sudoku:
    sizes = {
        "box": 2,
        "n_train": 640,
        "n_test": 20,
        "fewest_clues": 12,
        "most_clues": 14,
        "batch_size": 32,
        "augment": False,
        "longer_steps": 40,
        "n_compared": 8,
        "exact_steps": 100,
    }
    made = partial(cell, width=32, heads=2, expansion=2)
    return Sudoku(made, seed=seed, device="cpu", **(sizes | changes))


TRAIN = replace(TRAIN, solver=Broyden(16), tol=1e-3, epochs=2)


def test_sizes_of_the_network_are_those_of_the_study() -> None:
    """19 588 parameters, with the sizes of problem/grid=4x4."""
    task = sudoku()
    task.cell = partial(PostCell, width=48, heads=4, expansion=2)
    network = task.network(lambda cell: DEQ(cell, Broyden(5), JacobianFree()))
    units = network.unit.weight.numel()
    assert sum(p.numel() for p in network.parameters()) == 19_588
    assert units == 12 * 48


@pytest.mark.parametrize("cell", [PostCell, InjectedCell])
def test_cells_are_their_formulas(cell: type[Block]) -> None:
    f = cell(width=8, heads=2, expansion=2).double()
    z, x = torch.randn(2, 3, 5, 8, dtype=torch.float64)

    def rms(y: Tensor) -> Tensor:
        return y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    def attend(y: Tensor) -> Tensor:
        q, k, v = (y @ f.queries_keys_values.weight.T).split(8, dim=-1)
        heads = []
        for part in (slice(0, 4), slice(4, 8)):
            weights = torch.softmax(q[..., part] @ k[..., part].mT / 2, dim=-1)
            heads.append(weights @ v[..., part])
        return torch.cat(heads, dim=-1) @ f.mix.weight.T

    if cell is PostCell:
        h = rms(z + x + attend(z + x))
        expected = rms(h + f.think(h))
    else:
        h = x + attend(rms(z + x))
        expected = rms(h + f.think(rms(h)))
    torch.testing.assert_close(f(z, x), expected)


@pytest.mark.parametrize("cell", [PostCell, InjectedCell])
def test_easy_sudokus_are_learnt(cell: type[Block]) -> None:
    """With two to four empty cells, in 100 steps: the loss of a guess among four is log 4."""
    task = sudoku(cell, n_train=3200)
    train = replace(TRAIN, inverse=REFINED, epochs=1)
    _, (row,) = trained(train, task)
    assert row["test_loss"] < 0.8 * math.log(4)
    assert row["whole_grids"] > 0
    assert 0 < row["gradient_cosine"] <= 1


def test_sudoku_goes_on_from_a_state_dict_with_the_same_numbers() -> None:
    task, train = sudoku(augment=True), replace(TRAIN, inverse=REFINED, epochs=1)
    whole, rows = trained(train, task, seed=2)
    state = train.init(task, 2)
    for _ in range(7):
        state = train.step(task, state)
    resumed = train.load_state_dict(task, state.state_dict())
    torch.manual_seed(99)  # which nothing may depend on
    for _ in range(13):
        resumed = train.step(task, resumed)
    solution, other = (train.solution(task, s)["network"] for s in (whole, resumed))
    assert all(torch.equal(solution[name], other[name]) for name in solution)
    (row,) = train.measure(task, resumed)
    same = set(row) - {"forward_ms", "backward_ms"}
    assert {name: row[name] for name in same} == {name: rows[-1][name] for name in same}


def test_epoch_of_sudokus_sees_each_once_and_augments_them_anew() -> None:
    task = sudoku(n_train=64, augment=True)
    plain = sudoku(n_train=64)
    seen = torch.cat([plain.batch(0, step).clues for step in range(2)])
    assert sorted(seen.tolist()) == sorted(plain.train.clues.tolist())
    assert torch.equal(task.batch(0, 1).clues, task.batch(0, 1).clues)
    assert not torch.equal(task.batch(0, 1).clues, plain.batch(0, 1).clues)


def test_gradient_of_a_solved_backward_pass_has_cosine_one() -> None:
    """And of Jacobian-Free less; of both, and of unrolled steps, the exact one is the same."""
    task, cosines = sudoku(InjectedCell), {}
    for name, inverse in (("full", Full(1.0, max_steps=100)), ("jf", JacobianFree())):
        train = replace(TRAIN, solver=Broyden(100), tol=1e-6, inverse=inverse)
        state = train.init(task, 0)
        with torch.no_grad():
            cosines[name] = task.evaluate(state.network)["gradient_cosine"]
    assert cosines["full"] == pytest.approx(1, abs=1e-4)
    assert 0 < cosines["jf"] < 0.9999


def test_exact_gradient_is_that_of_finite_differences() -> None:
    """Of the whole network in float64, along a random direction of the embedded puzzles."""
    task = sudoku(InjectedCell)
    network = exact(TRAIN.init(task, 0).network, 200)
    network.equilibrium.tol = network.equilibrium.adjoint_tol = 1e-12
    puzzles = task.test[slice(0, 2)]
    solved, gradient = input_gradient(network, puzzles)
    assert solved.all()
    x, criterion = network.embed(puzzles.clues).detach(), puzzles.criterion()
    direction = torch.randn_like(x)
    with torch.no_grad():
        up, down = (criterion(network.answer(x + h * direction)) for h in (1e-5, -1e-5))
    slope = float((gradient * direction).sum())
    assert slope == pytest.approx(float(up - down) / 2e-5, rel=1e-5)


def test_more_steps_are_taken_back() -> None:
    layer = TRAIN.init(sudoku(), 0).layer
    with with_more_steps(layer, 60):
        assert layer.solver == Broyden(60)
    assert layer.solver == Broyden(16)
    layer.n_unrolled = 10
    with with_more_steps(layer, 60):
        assert (layer.solver, layer.n_unrolled) == (Broyden(16), 60)
    assert layer.n_unrolled == 10


def test_sudoku_refuses_numbers_of_clues_that_make_no_puzzle() -> None:
    for clues in ({"fewest_clues": 15}, {"most_clues": 16}):
        with pytest.raises(UserError, match="a puzzle has from fewest_clues to most_clues clues"):
            sudoku(**clues)

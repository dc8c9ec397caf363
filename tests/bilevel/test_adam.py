"""Adam on α: PyTorch's steps, inside the box, and the same numbers after a resume."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from quadratic import OneStep, Quadratic, Wrong

from shine_exp.bilevel.hypergradients.implicit import Implicit
from shine_exp.bilevel.loops.adam import Adam, AdamState
from shine_exp.bilevel.loops.schedule import Schedule
from shine_exp.bilevel.problem import BilevelProblem
from shine_exp.inverse.conjugate_gradient import ConjugateGradient

SCHEDULE = Schedule("exponential", 1e-3, 0.9)


def adam(n_steps: int = 60, factors: tuple[float, ...] = (1.0,), **changes: float) -> Adam:
    return Adam(OneStep(), Wrong(list(factors)), SCHEDULE, n_steps, **changes)


def states(loop: Adam, problem: BilevelProblem) -> list[AdamState]:
    """The state at the start, and after each step."""
    found = [loop.init(problem, 0)]
    for _ in range(loop.n_steps):
        found.append(loop.step(problem, found[-1]))
    return found


def test_adam_makes_the_steps_of_pytorch() -> None:
    """∇h = 2 (α − 2); ε, which ours takes relative to v̂, is far below the gradient in both."""
    loop = adam(20, learning_rate=0.3, final_learning_rate=0.3)
    alpha = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    theirs = torch.optim.Adam([alpha], lr=0.3, eps=1e-12)
    found = states(loop, Quadratic(3))
    torch.testing.assert_close(found[1].alpha, alpha.detach())  # the first step solves at α₀
    for state in found[2:]:
        alpha.grad = 2 * (alpha.detach() - 2)
        theirs.step()
        torch.testing.assert_close(state.alpha, alpha.detach(), rtol=1e-7, atol=1e-7)


def test_adam_rate_falls_along_a_cosine() -> None:
    """A hypergradient that is the same at every step moves every entry by the rate."""
    loop = adam(12, learning_rate=0.4, final_learning_rate=0.1)
    problem = Quadratic(1, upper=1e6)
    object.__setattr__(loop, "hypergradient", Constant())
    found = states(loop, problem)
    moves = [float(b.alpha - a.alpha) for a, b in pairwise(found[1:])]
    rates = [0.1 + 0.15 * (1 + math.cos(math.pi * t / 10)) for t in range(11)]
    assert moves == pytest.approx(rates)


class Constant(Wrong):
    def __init__(self) -> None:
        super().__init__([1.0])

    def __call__(self, problem, at, tol, previous=None):
        found = super().__call__(problem, at, tol, previous)
        return replace(found, value=-torch.ones_like(found.value))


@pytest.mark.parametrize("factors", [(1.0,), (1e6,), (1e-6,), (1.0, 3.0, 0.3)])
def test_adam_reaches_the_optimum_whatever_the_length_of_the_hypergradient(factors) -> None:
    final = states(adam(60, factors), Quadratic(2))[-1]
    torch.testing.assert_close(final.alpha, torch.full((2,), 2.0).double(), atol=0.1, rtol=0)
    assert final.outer_value < 1.02
    assert (final.step, final.products) == (60, 59 * 3)


def test_adam_stays_in_the_box_and_moves_each_entry_at_its_own_pace() -> None:
    problem = Quadratic(2)
    problem.upper = torch.tensor([0.5, 12.0], dtype=torch.float64)
    final = states(adam(80), problem)[-1]
    assert float(final.alpha[0]) == 0.5
    assert float(final.alpha[1]) == pytest.approx(2.0, abs=0.1)


def test_adam_stands_still_where_the_hypergradient_is_zero() -> None:
    final = states(adam(5, factors=(0.0,)), Quadratic(2))[-1]
    assert torch.equal(final.alpha, torch.zeros(2).double())


def test_adam_says_which_number_is_not_finite() -> None:
    loop = Adam(OneStep(), Wrong([1.0], nan_from=2), SCHEDULE, 4)
    found = states(loop, Quadratic())[:4]
    assert [loop.diverged(state) for state in found[:3]] == [None] * 3
    assert loop.diverged(found[3]).startswith("the hypergradient is nan at α = ")


def test_adam_goes_on_from_its_saved_state_to_the_bit() -> None:
    problem, loop = Quadratic(3), Adam(OneStep(), Implicit(ConjugateGradient()), SCHEDULE, 9)
    whole = states(loop, problem)
    state = loop.load_state_dict(problem, whole[4].state_dict())
    for expected in whole[5:]:
        state = loop.step(problem, state)
        assert torch.equal(state.alpha, expected.alpha)
        assert torch.equal(state.square, expected.square)
        assert state.row() == expected.row()


def test_adam_compares_with_the_exact_hypergradient() -> None:
    loop = Adam(OneStep(), Wrong([2.0]), SCHEDULE, 3, compare=True)
    problem = Quadratic(2)
    assert {"exact_cosine", "exact_norm_ratio"} <= set(loop.columns(problem))
    found = states(loop, problem)
    assert "exact_cosine" not in loop.measure(problem, found[1])[0], "nothing was differentiated"
    (row,) = loop.measure(problem, found[2])
    assert row["exact_cosine"] == pytest.approx(1.0)
    assert row["exact_norm_ratio"] == pytest.approx(2.0)

"""The inverse Hessian against the dense BFGS recursion; it is kept, moved and saved as a whole."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quadratics import D, secant_pairs

from shine_exp.solvers.inverse_hessian import InverseHessian

MEMORIES = st.one_of(st.none(), st.integers(1, 6))


def appended(seed: int, n: int, memory: int | None) -> InverseHessian:
    """The estimate as a solver makes it: pair by pair, in a ring where the memory is full."""
    estimate = InverseHessian(memory)
    for s, y in zip(*secant_pairs(seed, n), strict=True):
        estimate.append(s, y)
    return estimate


def vector(seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed + 5).standard_normal(D))


@given(seed=st.integers(0, 1000), n=st.integers(0, 12), memory=MEMORIES)
@settings(max_examples=40)
def test_inverse_hessian_from_pairs_equals_appended_pairs(
    seed: int, n: int, memory: int | None
) -> None:
    one = appended(seed, n, memory)
    other = InverseHessian.from_pairs(*secant_pairs(seed, n), memory)
    assert len(one) == len(other)
    torch.testing.assert_close(one.matvec(vector(seed)), other.matvec(vector(seed)))


def test_inverse_hessian_from_pairs_leaves_out_negative_curvature() -> None:
    s, y = secant_pairs(0, 5)
    y[1], y[3] = -y[1], 0.0
    estimate = InverseHessian.from_pairs(s, y, None)
    kept_s, _ = estimate.pairs()
    assert torch.equal(kept_s, s[[0, 2, 4]])
    assert len(InverseHessian.from_pairs(s, -s, None)) == 0


@given(seed=st.integers(0, 1000), n=st.integers(0, 12), memory=MEMORIES, scalar=st.booleans())
@settings(max_examples=40)
def test_inverse_hessian_shifted_equals_estimate_of_shifted_pairs(
    seed: int, n: int, memory: int | None, scalar: bool
) -> None:
    estimate = appended(seed, n, memory)
    diagonal = torch.full((1,), 2.0).double() if scalar else vector(seed).abs()
    s, y = estimate.pairs()
    expected = InverseHessian.from_pairs(s, y + diagonal * s if len(s) else y, memory)
    before = estimate.matvec(vector(seed))
    torch.testing.assert_close(
        estimate.shifted(diagonal).matvec(vector(seed)), expected.matvec(vector(seed))
    )
    assert torch.equal(estimate.matvec(vector(seed)), before)


@given(seed=st.integers(0, 1000), n=st.integers(0, 12), memory=MEMORIES)
@settings(max_examples=40)
def test_inverse_hessian_saved_is_same_to_the_bit(seed: int, n: int, memory: int | None) -> None:
    """So it is after more pairs, too: the rows stay where they were in the ring."""
    estimate = appended(seed, n, memory)
    loaded = InverseHessian.from_state_dict(estimate.state_dict())
    for s, y in zip(*secant_pairs(seed + 1, 4), strict=True):
        assert torch.equal(estimate.matvec(vector(seed)), loaded.matvec(vector(seed)))
        estimate.append(s, y)
        loaded.append(s, y)
    assert torch.equal(estimate.matvec(vector(seed)), loaded.matvec(vector(seed)))


@pytest.mark.parametrize("memory", [None, 3])
def test_inverse_hessian_copy_is_independent(memory: int | None) -> None:
    estimate = appended(0, 5, memory)
    before = estimate.matvec(vector(0))
    copy = estimate.copy()
    for s, y in zip(*secant_pairs(1, 5), strict=True):
        copy.append(s, y)
    assert torch.equal(estimate.matvec(vector(0)), before)
    assert not torch.allclose(copy.matvec(vector(0)), before)


def test_inverse_hessian_remeasured_has_pairs_of_given_hessian() -> None:
    estimate = appended(0, 5, 3)
    again = estimate.remeasured(lambda v: 4 * v)
    s, y = again.pairs()
    assert torch.equal(y, 4 * s)
    torch.testing.assert_close(again.matvec(vector(0)), vector(0) / 4)


def dense_bfgs(s: torch.Tensor, y: torch.Tensor, gamma: float) -> torch.Tensor:
    """H ← (I − ρ s yᵀ) H (I − ρ y sᵀ) + ρ s sᵀ, ρ = 1 / sᵀy, from γI, over the rows of s and y."""
    identity = torch.eye(s.shape[1], dtype=torch.float64)
    h = gamma * identity
    for a, b in zip(s, y, strict=True):
        rho = 1 / (a @ b)
        factor = identity - rho * torch.outer(a, b)
        h = factor @ h @ factor.T + rho * torch.outer(a, a)
    return h


@given(seed=st.integers(0, 10_000), n=st.integers(1, 12), memory=st.sampled_from([1, 3, 5, None]))
@settings(max_examples=60)
def test_inverse_hessian_equals_dense_recursion_over_kept_pairs(
    seed: int, n: int, memory: int | None
) -> None:
    s, y = secant_pairs(seed, n)
    estimate = InverseHessian.from_pairs(s, y, memory)
    kept = n if memory is None else min(n, memory)
    h = dense_bfgs(s[-kept:], y[-kept:], estimate.gamma)
    v = torch.from_numpy(np.random.default_rng(seed + 2).standard_normal((3, 2, D)))
    scale = h.norm()
    assert (estimate.matvec(v) - v @ h).norm() <= 1e-10 * scale * v.norm()
    assert torch.equal(estimate.rmatvec(v), estimate.matvec(v))
    assert (estimate.matvec(y[-1]) - s[-1]).norm() <= 1e-10 * scale * y[-1].norm()
    kept_s, kept_y = estimate.pairs()
    assert torch.equal(kept_s, s[-kept:])
    assert torch.equal(kept_y, y[-kept:])


def test_inverse_hessian_initial_scaling() -> None:
    s, y = secant_pairs(0, 4)
    assert InverseHessian.from_pairs(s, y, None).gamma == pytest.approx(
        float(s[-1] @ y[-1] / (y[-1] @ y[-1]))
    )
    assert InverseHessian.from_pairs(s, y, None, "identity").gamma == 1.0


def test_inverse_hessian_pair_of_no_step_leaves_gamma() -> None:
    """γ = sᵀy / yᵀy of the last step's pair, after a shift, a copy and a load as well."""
    (s, outer_s), (y, outer_y) = secant_pairs(4, 2)
    estimate = InverseHessian(5)
    estimate.append(s, y)
    estimate.append(outer_s, 0.01 * outer_y, of_step=False)
    assert estimate.gamma == pytest.approx(float(s @ y / (y @ y)))
    shifted = estimate.copy().shifted(torch.full((1,), 2.0).double())
    y = y + 2 * s
    assert shifted.gamma == pytest.approx(float(s @ y / (y @ y)))
    loaded = InverseHessian.from_state_dict(shifted.state_dict())
    assert loaded.remeasured(lambda v: 3 * v).gamma == pytest.approx(1 / 3)
    assert loaded.shifted(torch.zeros(1).double()).gamma == pytest.approx(shifted.gamma)
    # The secant equation is still that of the newest pair.
    torch.testing.assert_close(estimate.matvec(0.01 * outer_y), outer_s)


def test_inverse_hessian_append_leaves_out_negative_curvature() -> None:
    s, y = secant_pairs(3, 4)
    estimate = InverseHessian.from_pairs(s, y, None)
    before = estimate.matvec(y[0])
    assert not estimate.append(s[0], -y[0])
    assert torch.equal(estimate.matvec(y[0]), before)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 12), memory=st.integers(1, 6))
@settings(max_examples=40)
def test_inverse_hessian_grow_keeps_operator_and_makes_room(seed: int, n: int, memory: int) -> None:
    s, y = secant_pairs(seed, n)
    estimate = InverseHessian.from_pairs(s, y, memory)
    v = torch.from_numpy(np.random.default_rng(seed).standard_normal(D))
    before, kept = estimate.matvec(v), len(estimate)
    estimate.grow(at_most=8)
    torch.testing.assert_close(estimate.matvec(v), before)
    assert len(estimate) == kept
    for row_s, row_y in zip(*secant_pairs(seed + 7, 20), strict=True):
        estimate.append(row_s, row_y)
    assert len(estimate) == min(2 * memory, 8)

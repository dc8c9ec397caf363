"""The inverse Hessian of L-BFGS as an estimate that is kept, moved and saved as a whole."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shine_exp.solvers.inverse_hessian import InverseHessian

D = 12
MEMORIES = st.one_of(st.none(), st.integers(1, 6))


def pairs(seed: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Steps and gradient differences of a quadratic with eigenvalues from 1 to 10."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((D, D)))
    a = torch.from_numpy(q * np.linspace(1, 10, D) @ q.T)
    s = torch.from_numpy(rng.standard_normal((n, D)))
    return s, s @ a


def appended(seed: int, n: int, memory: int | None) -> InverseHessian:
    """The estimate as a solver makes it: pair by pair, in a ring where the memory is full."""
    inverse = InverseHessian(memory)
    for s, y in zip(*pairs(seed, n), strict=True):
        inverse.append(s, y)
    return inverse


def vector(seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed + 5).standard_normal(D))


@given(seed=st.integers(0, 1000), n=st.integers(0, 12), memory=MEMORIES)
@settings(max_examples=40)
def test_from_pairs_equals_appending_them(seed: int, n: int, memory: int | None) -> None:
    one, other = appended(seed, n, memory), InverseHessian.from_pairs(*pairs(seed, n), memory)
    assert len(one) == len(other)
    torch.testing.assert_close(one.matvec(vector(seed)), other.matvec(vector(seed)))


def test_pairs_without_positive_curvature_are_left_out() -> None:
    s, y = pairs(0, 5)
    y[1], y[3] = -y[1], 0.0
    inverse = InverseHessian.from_pairs(s, y, None)
    assert torch.equal(inverse.pairs()[0], s[[0, 2, 4]])
    assert len(InverseHessian.from_pairs(s, -s, None)) == 0


@given(seed=st.integers(0, 1000), n=st.integers(0, 12), memory=MEMORIES, scalar=st.booleans())
@settings(max_examples=40)
def test_shifted_is_the_estimate_of_the_shifted_pairs(
    seed: int, n: int, memory: int | None, scalar: bool
) -> None:
    inverse = appended(seed, n, memory)
    diagonal = torch.full((1,), 2.0).double() if scalar else vector(seed).abs()
    s, y = inverse.pairs()
    expected = InverseHessian.from_pairs(s, y + diagonal * s if len(s) else y, memory)
    before = inverse.matvec(vector(seed))
    torch.testing.assert_close(
        inverse.shifted(diagonal).matvec(vector(seed)), expected.matvec(vector(seed))
    )
    assert torch.equal(inverse.matvec(vector(seed)), before)


@given(seed=st.integers(0, 1000), n=st.integers(0, 12), memory=MEMORIES)
@settings(max_examples=40)
def test_a_saved_estimate_is_the_same_to_the_bit(seed: int, n: int, memory: int | None) -> None:
    """Also after more pairs: the rows stay where they were in the ring."""
    inverse = appended(seed, n, memory)
    loaded = InverseHessian.from_state_dict(inverse.state_dict())
    for s, y in zip(*pairs(seed + 1, 4), strict=True):
        assert torch.equal(inverse.matvec(vector(seed)), loaded.matvec(vector(seed)))
        inverse.append(s, y)
        loaded.append(s, y)
    assert torch.equal(inverse.matvec(vector(seed)), loaded.matvec(vector(seed)))


@pytest.mark.parametrize("memory", [None, 3])
def test_a_copy_is_changed_on_its_own(memory: int | None) -> None:
    inverse = appended(0, 5, memory)
    before = inverse.matvec(vector(0))
    copy = inverse.copy()
    for s, y in zip(*pairs(1, 5), strict=True):
        copy.append(s, y)
    assert torch.equal(inverse.matvec(vector(0)), before)
    assert not torch.allclose(copy.matvec(vector(0)), before)


def test_remeasured_pairs_are_those_of_the_given_hessian() -> None:
    inverse = appended(0, 5, 3)
    again = inverse.remeasured(lambda v: 4 * v)
    s, y = again.pairs()
    assert torch.equal(y, 4 * s)
    torch.testing.assert_close(again.matvec(vector(0)), vector(0) / 4)

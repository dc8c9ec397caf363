"""The spectral radius against dense eigenvalues."""

import pytest
import torch

from shine_exp.deq import contractivity
from shine_exp.deq.linearisation import Linearisation


def spectral_radius(at: Linearisation, n_steps: int, generator: torch.Generator) -> torch.Tensor:
    return contractivity.spectral_radius(at.vjp, at.z, n_steps, generator)


def linear(matrices: torch.Tensor) -> Linearisation:
    batch, d, _ = matrices.shape
    return Linearisation(
        lambda z: torch.einsum("bij,bj->bi", matrices, z),
        torch.zeros(batch, d, dtype=torch.float64),
    )


@pytest.mark.parametrize("seed", range(3))
def test_spectral_radius_is_the_largest_modulus_of_an_eigenvalue(seed: int) -> None:
    """Of random matrices, whose leading eigenvalues are complex pairs more often than not."""
    random = torch.Generator().manual_seed(seed)
    matrices = torch.randn(8, 6, 6, dtype=torch.float64, generator=random)
    expected = torch.linalg.eigvals(matrices).abs().amax(dim=-1)
    found = spectral_radius(linear(matrices), 2000, random)
    torch.testing.assert_close(found, expected, rtol=5e-3, atol=0)


def test_spectral_radius_of_a_complex_pair() -> None:
    """A sheared rotation: each product changes the length by another factor, all of modulus 0.9 in
    the mean.
    """
    shear = torch.tensor([[1.0, 3.0], [0.0, 1.0]], dtype=torch.float64)
    rotation = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    matrix = 0.9 * shear @ rotation @ torch.linalg.inv(shear)
    found = spectral_radius(linear(matrix[None]), 400, torch.Generator().manual_seed(0))
    assert float(found[0]) == pytest.approx(0.9, rel=1e-2)


def test_spectral_radius_does_not_depend_on_the_batch() -> None:
    matrices = torch.randn(3, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    together = spectral_radius(linear(matrices), 2000, torch.Generator().manual_seed(2))
    alone = spectral_radius(linear(matrices[1:2]), 2000, torch.Generator().manual_seed(3))
    assert float(together[1]) == pytest.approx(float(alone[0]), rel=1e-2)

"""How contractive a cell is at its equilibrium."""

from collections.abc import Callable

import torch
from torch import Tensor


def spectral_radius(
    product: Callable[[Tensor], Tensor], like: Tensor, n_steps: int, generator: torch.Generator
) -> Tensor:
    """ρ(∂f/∂z) of each sample (batch,), by the power method on v ↦ (∂f/∂z)ᵀv = `product(v)`.

    The start is random, and like the vectors `like` (batch, d). The growth ‖(∂f/∂z)ᵀᵏv‖^{1/k} over
    the second half of the steps: its limit is ρ also where the leading eigenvalues are a complex
    pair, for which a single factor oscillates (Ramzi et al. 2022, appendix E, table on
    contractivity).
    """
    v = torch.randn(like.shape, dtype=like.dtype, generator=generator).to(like.device)
    factors = []
    for _ in range(n_steps):
        v = product(torch.nn.functional.normalize(v, dim=-1))
        factors.append(v.norm(dim=-1))
    return torch.stack(factors[n_steps // 2 :]).log().mean(0).exp()

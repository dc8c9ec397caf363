"""How contractive a cell is at its equilibrium."""

import torch
from torch import Tensor

from shine_exp.deq.linearisation import Linearisation


def spectral_radius(at: Linearisation, n_steps: int, generator: torch.Generator) -> Tensor:
    """ρ(∂f/∂z) of each sample (batch,), by the power method on the transpose from a random start.

    The growth ‖(∂f/∂z)ᵀᵏv‖^{1/k} over the second half of the steps: its limit is ρ also where the
    leading eigenvalues are a complex pair, for which a single factor oscillates (Ramzi et al.
    2022, appendix E, table on contractivity).
    """
    v = torch.randn(at.z.shape, dtype=at.z.dtype, generator=generator).to(at.z.device)
    factors = []
    for _ in range(n_steps):
        v = at.vjp(torch.nn.functional.normalize(v, dim=-1))
        factors.append(v.norm(dim=-1))
    return torch.stack(factors[n_steps // 2 :]).log().mean(0).exp()

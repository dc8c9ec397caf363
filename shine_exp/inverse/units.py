"""Adjoint systems in units in which the squares of r neither vanish nor overflow."""

from collections.abc import Callable
from dataclasses import replace

import torch

from shine_exp.types import Adjoint, AdjointSystem


def in_units_of_r(solve: Callable[[AdjointSystem], Adjoint], system: AdjointSystem) -> Adjoint:
    """u = s û with û = solve(Jᵀû = r / s), s the power of 2 next to max |r| of each system.

    ‖r‖² of float32 numbers near 1e-24 is 0, and a solver that starts at 0 would call itself done. A
    power of 2 rounds nothing: in the middle of the range, the numbers are those without it.
    """
    largest = system.r.abs().amax(-1, keepdim=True) if system.r.numel() else system.r
    usable = (largest > 0) & largest.isfinite()
    exponent = torch.frexp(torch.where(usable, largest, 1.0)).exponent
    unit = torch.ldexp(torch.ones_like(largest), exponent - 1)
    start = None if system.start is None else system.start / unit
    adjoint = solve(replace(system, r=system.r / unit, start=start))
    return replace(adjoint, u=adjoint.u * unit)

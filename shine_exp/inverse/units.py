"""Adjoint systems in units in which ‖r‖² neither vanishes nor overflows."""

from collections.abc import Callable
from dataclasses import replace

import torch

from shine_exp.types import Adjoint, AdjointSystem, unread_status


def in_units_of_r(solve: Callable[[AdjointSystem], Adjoint], system: AdjointSystem) -> Adjoint:
    """u = s û, where `solve` finds û with Jᵀû = r / s, and s is a power of 2 near max |r|.

    Each system of the batch has its own s. Without it, ‖r‖² of float32 numbers near 1e-24 would
    be 0, and a solver that starts at u = 0 would call itself done. A power of 2 rounds nothing:
    in the middle of the range, all numbers are as they would be without it.
    """
    largest = system.r.abs().amax(-1, keepdim=True) if system.r.numel() else system.r
    usable = (largest > 0) & largest.isfinite()
    exponent = torch.frexp(torch.where(usable, largest, 1.0)).exponent
    unit = torch.ldexp(torch.ones_like(largest), exponent - 1)
    start = None if system.start is None else system.start / unit
    adjoint = solve(replace(system, r=system.r / unit, start=start))
    u, status = adjoint.u * unit, unread_status(adjoint)
    return Adjoint(u, adjoint.n_products, status, adjoint.converged, adjoint.fell_back)

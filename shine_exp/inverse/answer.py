"""What an inverse method returns, checked: it may be of the user's own."""

from typing import Any

from torch import Tensor

from shine_exp.errors import UserError
from shine_exp.types import Adjoint, AdjointSystem, InverseMethod


def answer(method: InverseMethod, system: AdjointSystem) -> Adjoint:
    """The method's answer. Raises `UserError` where it is no `Adjoint`, or u is not a tensor of r's kind."""
    adjoint: Any = method(system)
    if not isinstance(adjoint, Adjoint):
        raise UserError(f"{_name(method)}: returned {type(adjoint).__name__}, where shine_exp.types.Adjoint is due")
    u, r = adjoint.u, system.r
    if not isinstance(u, Tensor) or (u.shape, u.dtype, u.device) != (r.shape, r.dtype, r.device):
        raise UserError(f"{_name(method)}: returned {_kind(u)} for u, where {_kind(r)} is due, as r")
    return adjoint


def _name(method: InverseMethod) -> str:
    return f"{type(method).__module__}.{type(method).__qualname__}"


def _kind(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')} on {value.device}"

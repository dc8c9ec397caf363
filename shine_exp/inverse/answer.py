"""The answer of an inverse method, checked, since the method may come from anybody."""

from torch import Tensor

from shine_exp.errors import UserError
from shine_exp.types import Adjoint, AdjointSystem, InverseMethod


def answer(method: InverseMethod, system: AdjointSystem) -> Adjoint:
    """The method's `Adjoint`, whose u has the shape, dtype and device of r.

    Raises `UserError`, naming the method, where it returns anything else.
    """
    adjoint: object = method(system)  # not yet known to be what it is declared to be
    name = f"{type(method).__module__}.{type(method).__qualname__}"
    if not isinstance(adjoint, Adjoint):
        kind = type(adjoint).__name__
        raise UserError(f"{name} returned {kind}: a method returns a shine_exp.types.Adjoint")
    u, r = adjoint.u, system.r
    if not isinstance(u, Tensor):
        raise UserError(f"{name}: the u that it returned is no tensor, but {type(u).__name__}")
    if (u.shape, u.dtype, u.device) != (r.shape, r.dtype, r.device):
        found, needed = (f"{tuple(t.shape)} {t.dtype} on {t.device}" for t in (u, r))
        raise UserError(f"{name}: the u that it returned is {found}, where r is {needed}")
    return adjoint

"""A cell that is called with other inputs than its forward takes."""

import inspect
from typing import Any

from torch import nn

from shine_exp.deq.cell_state import described
from shine_exp.errors import UserError


def check_call(cell: Any, inputs: tuple[Any, ...], named: dict[str, Any], error: TypeError) -> None:
    """Raises `UserError` where `error` comes of inputs that the cell does not take.

    Asked only after the call has failed, since a signature takes longer than a small cell.
    """
    forward = cell.forward if isinstance(cell, nn.Module) else cell
    try:
        signature = inspect.signature(forward)
    except ValueError:  # of some compiled functions nothing is known
        return
    try:
        signature.bind(None, *inputs, **named)
    except TypeError as clash:
        given = ["z", *map(described, inputs)]
        given += [f"{name}={described(value)}" for name, value in named.items()]
        raise UserError(
            f"the cell {type(cell).__name__} is called with ({', '.join(given)}), and its forward "
            f"takes {parameters_of(signature)} beside self: {clash}; call the layer with z0 and "
            "what the cell takes"
        ) from error


def parameters_of(signature: inspect.Signature) -> str:
    """The parameters in brackets, without annotations."""
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(inspect.Signature(bare))

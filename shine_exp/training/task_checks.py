"""What a task may get wrong, found as early as it can be, and said in the words of its author."""

import inspect
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any

from torch import Tensor, nn

from shine_exp.deq.cell_call import parameters_of
from shine_exp.deq.cell_state import described
from shine_exp.deq.layer import DEQ
from shine_exp.errors import UserError
from shine_exp.training.layer_calls import equilibrium_layer
from shine_exp.training.task import Task

CALLS = {  # how the training loop calls the methods of a task
    "network": ("layer",),
    "batch": ("seed", "step"),
    "loss": ("network", "batch"),
    "evaluate": ("network",),
}


def check_task(task: Task, of_the_loop: Collection[str]) -> None:
    """What can be checked before anything is called; `of_the_loop` are the loop's own columns.

    Raises `UserError`.
    """
    name = type(task).__name__
    for method, arguments in CALLS.items():
        _check_call(f"{name}.{method}", getattr(task, method), arguments)
    steps = task.steps_per_epoch
    if not isinstance(steps, int) or steps < 1:
        raise UserError(
            f"{name}.steps_per_epoch={_shown(steps)}: must be 1 or more, a whole number"
        )
    columns: object = task.columns
    if isinstance(columns, str):
        raise UserError(
            f'{name}.columns is the string "{columns}": take a tuple of names, ("{columns}",)'
        )
    if not isinstance(columns, tuple | list) or not all(isinstance(c, str) for c in columns):
        raise UserError(
            f'{name}.columns={_shown(columns)}: take a tuple of names, such as ("test_loss",)'
        )
    if clash := set(of_the_loop) & set(columns):
        raise UserError(
            f"{name}.columns: {', '.join(sorted(clash))} is a column of the "
            "training loop itself; take another name"
        )


def check_network(task: Task, network: object) -> DEQ:
    """The network's equilibrium layer.

    Raises `UserError` for what is no module, has not one such layer, or has nothing to train.
    """
    name = type(task).__name__
    if not isinstance(network, nn.Module):
        raise UserError(
            f"{name}.network returns {_shown(network)}: it must return the network, a "
            "torch.nn.Module"
        )
    layer = equilibrium_layer(network)
    if next(network.parameters(), None) is None:
        raise UserError(f"{name}.network returns a network without parameters to train")
    return layer


def check_loss(task: Task, loss: object) -> None:
    """Raises `UserError` for what is not one number with a graph."""
    if isinstance(loss, Tensor) and loss.numel() == 1 and loss.requires_grad:
        return
    graph = "" if not isinstance(loss, Tensor) or loss.requires_grad else " without a graph"
    returned = described(loss) if isinstance(loss, Tensor) else _shown(loss)
    raise UserError(
        f"{type(task).__name__}.loss returns {returned}{graph}: it must return one number that "
        "depends on the network's parameters, as a tensor with a graph (no float, item or detach)"
    )


@contextmanager
def first_use(task: Task, layer: DEQ) -> Iterator[None]:
    """Counts the calls of the layer in the block, the first call of `task.loss`.

    Raises `UserError` where there was not one call. PyTorch's warning of `float(loss)` is not
    shown: what such a loss returns is refused.
    """
    n_calls = 0

    def count(*_: Any) -> None:
        nonlocal n_calls
        n_calls += 1

    hook = layer.register_forward_hook(count)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Converting a tensor with requires_grad=True")
            yield
    finally:
        hook.remove()
    if n_calls != 1:
        calls = f"calls the network's equilibrium layer {n_calls} times"
        if n_calls == 0:
            calls = "does not call the network's equilibrium layer"
        raise UserError(
            f"{type(task).__name__}.loss {calls}: the training loop measures one call in a step, "
            "so call the layer once in it, on one batch"
        )


def check_measured(task: Task, measured: object) -> None:
    """Raises `UserError` for what is not a number for each column."""
    name = type(task).__name__
    if not isinstance(measured, dict):
        expected = ", ".join(f'"{column}": …' for column in task.columns)
        raise UserError(
            f"{name}.evaluate returns {_shown(measured)}: it must return a dict, {{{expected}}}"
        )
    if set(measured) != set(task.columns):
        raise UserError(
            f"{name}.evaluate gives {', '.join(map(str, measured)) or 'nothing'}, and its "
            f"columns are {', '.join(task.columns) or 'none'}: they must be the same"
        )
    for column, value in measured.items():
        if not isinstance(value, Real):
            raise UserError(
                f"{name}.evaluate gives {column}={_shown(value)}: take a number, as by float(…)"
            )


def _check_call(name: str, method: Any, arguments: tuple[str, ...]) -> None:
    """Raises `UserError` for a method that cannot be called with so many arguments."""
    if not callable(method):
        raise UserError(f"{name}={_shown(method)}: it must be a method, {_call(arguments)}")
    try:
        signature = inspect.signature(method)
    except ValueError:  # of some compiled functions nothing is known
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise UserError(
            f"{name} takes {parameters_of(signature)} beside "
            f"self ({error}): it is called with {_call(arguments)}"
        ) from error


def _call(arguments: tuple[str, ...]) -> str:
    return f"({', '.join(arguments)})"


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    return f"the class {value.__name__}" if isinstance(value, type) else described(value)

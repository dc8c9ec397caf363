"""What a network is trained on."""

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn

from shine_exp.deq.layer import DEQ

LayerFactory = Callable[[nn.Module], DEQ]  # of a cell, with the run's solver and inverse method


class Task(Protocol):
    """A network, its batches, its loss, and what is measured.

    What is random follows from the seed and the step, never from the state of a generator, so that
    a resumed run needs no such state.
    """

    solution: str  # what a solver must find: a "root"
    steps_per_epoch: int  # between two rows of the trace
    columns: tuple[str, ...]  # the names that `evaluate` gives

    @property
    def sizes(self) -> dict[str, int]:
        """For run.json, such as the number of training samples."""
        ...

    def network(self, layer: LayerFactory, seed: int) -> nn.Module:
        """A new network, its weights by the seed, with one equilibrium layer made by `layer`."""
        ...

    def batch(self, seed: int, step: int) -> Any:
        """What the network is trained on at a step: anything that `loss` takes."""
        ...

    def loss(self, network: nn.Module, batch: Any) -> Tensor:
        """The mean loss of a batch, a scalar with a graph.

        A network that supports OPA passes the loss as a function of z on to its layer.
        """
        ...

    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """What is measured for the trace, off the clock and without a graph: columns by name."""
        ...

"""What a network with an equilibrium layer is trained on."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from shine_exp.deq.layer import DEQ
from shine_exp.errors import UserError
from shine_exp.processes import Processes

LayerFactory = Callable[[nn.Module], DEQ]  # of a cell, with the run's solver and inverse method


class Task(ABC):
    """min over w of the mean loss L(w) of a network's batches, in which z* = f(z*, x; w).

    A task says which network, batches and loss, and what is measured; a task of one's own derives
    from this class. What is random in it follows from the seed and the step, never from the state
    of a generator, so that an interrupted training goes on with the same numbers.
    """

    seeks = "root"  # what a solver must find

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """How many steps lie between two rows of the trace; may be a plain class attribute."""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """The names that `evaluate` gives; may be a plain class attribute."""

    @property
    def facts(self) -> dict[str, int | str]:
        """For run.json, such as the number of training samples."""
        return {}

    @abstractmethod
    def network(self, layer: LayerFactory) -> nn.Module:
        """A new network, on its device, with exactly one equilibrium layer: `layer(cell)`.

        PyTorch's own random numbers, which initial weights are drawn from, follow from the run's
        seed here.
        """

    @abstractmethod
    def batch(self, seed: int, step: int) -> Any:
        """What the network is trained on at a step, in a form that `loss` takes.

        What else is random at a step, such as dropout masks, is drawn here too, so that the loss
        is a function of the network and the batch.
        """

    @abstractmethod
    def loss(self, network: nn.Module, batch: Any) -> Tensor:
        """The mean loss of a batch, a scalar with a graph, of a network in training mode.

        It calls the equilibrium layer once.

        For OPA the network passes the loss as a function of z on to its layer, as `loss=`.
        """

    def share(self, batch: Any, processes: Processes) -> tuple[Any, Tensor | float]:
        """The samples of a batch that this process takes, as a batch, and their weight ω:

            L(batch) = Σ ω L(share)  over all processes,  Σ ω = 1.

        `processes.rows(n)` are its rows of n samples. Needed for several processes alone, each of
        which draws the whole batch: what is random in a sample does not depend on their number.
        """
        raise UserError(
            f"{type(self).__name__} has no method share(batch, processes): without it several "
            "processes cannot train on it; start one"
        )

    @abstractmethod
    def evaluate(self, network: nn.Module) -> dict[str, float]:
        """What is measured for the trace: columns by name.

        It is called before the first step and after every epoch, off the clock, without a graph,
        on a network in evaluation mode. Samples whose equilibrium missed the tolerance are counted
        by the training loop.
        """

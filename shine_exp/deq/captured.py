"""A function of tensors as one CUDA graph, replayed in place of being run."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_map, tree_unflatten

from shine_exp.deq.synchronisation import Synchronisations
from shine_exp.errors import UserError, one_line
from shine_exp.solvers.looks import fixed_steps

WARM_UP = 3  # calls: kernels are chosen, and memory is laid out, before a graph is recorded


class Uncapturable(UserError):
    """A step that no CUDA graph can hold, as one that waits for its device."""


class Captured:
    """`step(*inputs)`, whose kernels a GPU repeats from a CUDA graph, without Python in between.

        train = Captured(step)          # step: forward and backward pass, update of the optimiser
        for images, labels in loader:
            loss = train(images, labels)

    `inputs` are tensors on the device, and lists, tuples and dicts of them; they are copied into
    memory of the graph's own. So is what the step returns, without its graph of derivatives: the
    next call writes over it, so clone what is to be kept. Everything else that the step reads or
    changes must keep its address from call to call: parameters do, and gradients do if the step
    begins with `zero_grad(set_to_none=True)`. Each set of shapes is a graph of its own.

    Equilibrium layers make all their steps in it (`solvers.looks.fixed_steps`): samples that are
    done stand still. The first three calls with new shapes run as they are. Where the first shows
    that the step waits for its device, `otherwise` is told why, and the step is run as it is from
    then on; without `otherwise` it is an error, `Uncapturable`.

    `device` is where the step works; None: where its inputs are.

    On a CPU there are no graphs: the same memory is used in the same way, and the step is run.
    """

    def __init__(
        self,
        step: Callable[..., Any],
        otherwise: Callable[[str], None] | None = None,
        device: torch.device | None = None,
    ) -> None:
        self._step = step
        self._device = device
        self._otherwise = otherwise
        self._is_captured = True
        self._recordings: dict[Any, _Recording] = {}

    def __call__(self, *inputs: Any) -> Any:
        leaves, structure = tree_flatten(inputs)
        if self._is_captured and (obstacle := self._unfit(leaves)):
            self._give_up(obstacle)
        if not self._is_captured:
            return self._step(*inputs)
        device = self._device or leaves[0].device
        key = (structure, *((leaf.shape, leaf.dtype, leaf.device) for leaf in leaves))
        if key not in self._recordings:
            self._recordings[key] = _Recording(self._step, leaves, structure, device)
        try:
            outputs, obstacle = self._recordings[key](leaves)
        except Uncapturable as error:  # found as it was recorded, when nothing is run
            self._give_up(str(error))
            return self._step(*inputs)
        if obstacle is not None:
            self._give_up(obstacle)
        return outputs

    def _unfit(self, leaves: Sequence[Any]) -> str | None:
        """What is wrong with the inputs, if anything."""
        for leaf in leaves:
            if not isinstance(leaf, Tensor):
                return (
                    f"it is called with a {type(leaf).__name__}: take tensors, and lists, tuples "
                    "and dicts of them; what is constant belongs into the step"
                )
        devices = sorted({str(leaf.device) for leaf in leaves})
        if self._device is None and len(devices) != 1:
            where = f"are on {' and '.join(devices)}" if devices else "have no tensor"
            return f"its inputs {where}: take tensors on the device that it works on"
        return None

    def _give_up(self, obstacle: str) -> None:
        why = f"the step cannot be captured as a CUDA graph: {obstacle}"
        if self._otherwise is None:
            raise Uncapturable(why)
        self._is_captured = False
        self._recordings.clear()
        self._otherwise(why)


class _Recording:
    """The step on inputs of one set of shapes."""

    def __init__(
        self,
        step: Callable[..., Any],
        leaves: Sequence[Tensor],
        structure: TreeSpec,
        device: torch.device,
    ) -> None:
        self._inputs = [torch.empty_like(leaf) for leaf in leaves]
        self._arguments = tree_unflatten(self._inputs, structure)
        self._run_step = step
        self._device = device
        self._n_calls = 0
        self._outputs: Any = None
        self._replay: Callable[[], None] | None = None

    def __call__(self, leaves: Sequence[Tensor]) -> tuple[Any, str | None]:
        """What the step returns, and why no graph can hold it, where that has been found."""
        for own, leaf in zip(self._inputs, leaves, strict=True):
            own.copy_(leaf)
        self._n_calls += 1
        if self._n_calls == 1:
            with Synchronisations(self._device) as waits:
                outputs = self._warm_up()
            return outputs, waits.found[0] if waits.found else None
        if self._n_calls <= WARM_UP:
            return self._warm_up(), None
        if self._replay is None:
            self._replay = self._recorded()
        self._replay()
        return self._outputs, None

    def _run(self) -> Any:
        with fixed_steps():
            outputs = self._run_step(*self._arguments)
        return tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, outputs)

    def _warm_up(self) -> Any:
        """One call as it is, on a stream of its own, which a recording needs."""
        if self._device.type != "cuda":
            return self._run()
        stream, present = torch.cuda.Stream(self._device), torch.cuda.current_stream(self._device)
        stream.wait_stream(present)
        with torch.cuda.stream(stream):
            outputs = self._run()
        present.wait_stream(stream)
        return outputs

    def _recorded(self) -> Callable[[], None]:
        """What makes the step again and writes to `_outputs`. On a GPU it is not made here."""
        if self._device.type != "cuda":
            return self._run_again
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._outputs = self._run()
        except RuntimeError as error:
            raise Uncapturable(one_line(error)) from error
        return graph.replay

    def _run_again(self) -> None:
        """In place of a graph: the step, with its outputs where they were the last time."""
        outputs = self._run()
        if self._outputs is None:
            self._outputs = tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, outputs)
            return
        for own, new in zip(tree_leaves(self._outputs), tree_leaves(outputs), strict=True):
            if isinstance(own, Tensor):
                own.copy_(new)

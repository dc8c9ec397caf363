"""What a run sees of an outer loop: a state that it can save, and a step that takes it further."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

# One row of a trace: column → value.
Row = Mapping[str, float | int | str]


class LoopState(Protocol):
    """Where a loop stands after `step` steps.

    A study may have `conclusions` too, lines that the command prints at its end.
    """

    @property
    def step(self) -> int: ...
    @property
    def unsolved(self) -> dict[str, int]:
        """How many "inner" and "backward" solves have missed their tolerance so far."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The whole state, in types that `torch.load(..., weights_only=True)` takes.

        These are numbers and tensors, and dicts, lists and tuples of them.
        """
        ...


P = TypeVar("P", contravariant=True)
S = TypeVar("S", bound=LoopState)


class OuterLoop(Protocol[P, S]):
    """A loop on a problem of `problem_type`.

    `needs_gradient` says whether the method must give a hypergradient. `changes_in_place` says
    that `step` changes the state that it is given, so that a step must not be cut short.
    """

    problem_type: type
    needs_gradient: bool
    changes_in_place: bool

    def suited(self, problem: P) -> Any:
        """The problem in variables that the loop can work with."""
        ...

    def check(self, problem: P) -> None:
        """Raises `UserError` for a problem on which the loop cannot work.

        A run asks this before it writes anything.
        """
        ...

    def columns(self, problem: P) -> tuple[str, ...]:
        """The columns of the trace, beside step and time."""
        ...

    def length(self, problem: P) -> int:
        """The number of steps."""
        ...

    def init(self, problem: P, seed: int) -> S:
        """The state before the first step."""
        ...

    def load_state_dict(self, problem: P, saved: dict[str, Any]) -> S:
        """The state whose `state_dict` was saved."""
        ...

    def step(self, problem: P, state: S) -> S:
        """The state after one more step."""
        ...

    def diverged(self, state: S) -> str | None:
        """Which number that is not finite the method has met, in a sentence; this ends the run.

        None where all is finite.
        """
        ...

    def measure(self, problem: P, state: S) -> list[Row]:
        """Rows for the trace; the time that this takes is not the run's."""
        ...

    def progress(self, state: S) -> dict[str, str]:
        """A few live numbers for the progress bar."""
        ...

    def solution(self, problem: P, state: S) -> dict[str, Any]:
        """What the run found, to be kept: tensors by name."""
        ...

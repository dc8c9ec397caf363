"""What a run sees of an outer loop: a state that it can save, and a step that takes it further."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

Row = Mapping[str, float | int | str]  # of a trace: column → value


class LoopState(Protocol):
    """Where a loop stands after `step` steps."""

    @property
    def step(self) -> int: ...
    @property
    def unsolved(self) -> dict[str, int]:
        """How many "inner" and how many "backward" solves have missed their tolerance so far."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All of it, in numbers, tensors, and tables of those: what `torch.load` takes without
        pickle.
        """
        ...


P = TypeVar("P", contravariant=True)
S = TypeVar("S", bound=LoopState)


class OuterLoop(Protocol[P, S]):
    """A loop on a problem."""

    problem_type: type
    needs_gradient: bool  # of the method
    changes_in_place: bool  # `step` changes the state that it is given: it must not be cut short

    def check(self, problem: P) -> None:
        """Raises `UserError` for a problem that the loop cannot work on; nothing is written yet."""
        ...

    def columns(self, problem: P) -> tuple[str, ...]:
        """Those of the trace, beside step and time."""
        ...

    def length(self, problem: P) -> int:
        """How many steps there are."""
        ...

    def init(self, problem: P, seed: int) -> S: ...
    def load_state_dict(self, problem: P, saved: dict[str, Any]) -> S:
        """The state whose `state_dict` was saved."""
        ...

    def step(self, problem: P, state: S) -> S: ...
    def diverged(self, state: S) -> bool:
        """Whether the method has met a number that is not finite, which ends the run."""
        ...

    def measure(self, problem: P, state: S) -> list[Row]:
        """Rows for the trace, off the clock."""
        ...

    def progress(self, state: S) -> dict[str, str]:
        """A few live numbers for the progress bar."""
        ...

    def solution(self, state: S) -> dict[str, Any]:
        """What the run found, to be kept: tensors by name."""
        ...

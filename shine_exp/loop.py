"""What a run sees of an outer loop: a state that it can save, and a step that takes it further."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

Row = Mapping[str, float | int | str]  # of a trace: column → value


class LoopState(Protocol):
    """What the runner sees of a state."""

    @property
    def step(self) -> int: ...
    @property
    def unsolved(self) -> dict[str, int]:
        """How many "inner" and how many "backward" solves have missed their tolerance so far."""
        ...

    def as_dict(self) -> dict[str, Any]: ...


P = TypeVar("P", contravariant=True)
S = TypeVar("S", bound=LoopState)


class OuterLoop(Protocol[P, S]):
    """A loop on a problem. `columns` are those of its trace, beside step and time."""

    problem_type: type
    needs_gradient: bool  # of the method
    changes_in_place: (
        bool  # `advance` changes the state that it is given, so that a step must not be cut short
    )
    keeps_state: bool  # the last checkpoint of a run that is done is worth keeping

    @property
    def columns(self) -> tuple[str, ...]: ...
    def length(self, problem: P) -> int:
        """How many steps there are."""
        ...

    def begin(self, problem: P, seed: int) -> S: ...
    def restore(self, problem: P, saved: dict[str, Any]) -> S: ...
    def advance(self, problem: P, state: S) -> S: ...
    def diverged(self, state: S) -> bool:
        """Whether the method has met a number that is not finite, which ends the run."""
        ...

    def measure(self, problem: P, state: S) -> list[Row]:
        """Rows for the trace, off the clock."""
        ...

    def progress(self, state: S) -> dict[str, str]:
        """A few live numbers for the progress bar."""
        ...

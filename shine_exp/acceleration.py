"""Whether steps are captured as CUDA graphs and cells compiled: chosen by whoever starts a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

Choice = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class Acceleration:
    """How the steps of a training are to be made.

    `graph`: replay the kernels of a step from a CUDA graph. `compile`: make few kernels of the
    many of a cell. "auto" means where it pays, which is never the case on a CPU.
    """

    graph: Choice = "auto"
    compile: Choice = "auto"


AUTO = Acceleration()
_present: ContextVar[Acceleration] = ContextVar("acceleration", default=AUTO)


def acceleration() -> Acceleration:
    """That of the innermost block of `accelerated`."""
    return _present.get()


@contextmanager
def accelerated(graph: Choice = "auto", compile: Choice = "auto") -> Iterator[None]:
    """Trainings that begin within the block are made so."""
    token = _present.set(Acceleration(graph, compile))
    try:
        yield
    finally:
        _present.reset(token)

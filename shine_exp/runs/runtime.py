"""Where and how to run: changes none of the numbers that a run is known by."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from shine_exp.acceleration import Choice, accelerated
from shine_exp.errors import UserError
from shine_exp.runs.tracking import Tracker


@dataclass(frozen=True)
class Runtime:
    """Where runs lie, on what they run, and what they keep.

    `results` is the folder of all runs, `device` and `threads` are PyTorch's, `checkpoint_every`
    is in seconds. A run that is at work for `max_minutes` ends as interrupted, after the step in
    progress. `keep` names what of the solution is kept. `graph` and `compile` are for networks:
    steps of a training from a CUDA graph, and a compiled cell (`shine_exp.acceleration`).
    `tracker` shows runs as they go. With `dry_run` the command only says what it would do.
    """

    results: str
    device: str
    threads: PositiveInt
    checkpoint_every: NonNegativeFloat
    max_minutes: PositiveFloat | None
    keep: list[Literal["alpha", "theta", "network"]]
    graph: Choice
    compile: Choice
    dry_run: bool
    tracker: Tracker | None

    def check(self) -> None:
        """Raises `UserError` for what this machine does not have.

        That is a folder without a name, too many threads, a tracker that is not installed, a device
        that is not here, one without float64, or a CUDA graph without a GPU.
        """
        if not self.results:
            raise UserError(
                "runtime.results is empty; give a folder, such as runtime.results=results"
            )
        processors = os.cpu_count() or 1
        if self.threads > processors:
            raise UserError(
                f"runtime.threads={self.threads}: this machine has {processors}; "
                "take no more than that"
            )
        if self.tracker is not None:
            self.tracker.check()
        if self.device == "cpu":
            if self.graph == "on":
                raise UserError(
                    "runtime.graph=on: a CUDA graph needs a GPU, and runtime.device=cpu; take "
                    "runtime.device=cuda, or runtime.graph=auto"
                )
            return
        import torch

        try:
            torch.empty(0, dtype=torch.float64, device=self.device)
        except (RuntimeError, AssertionError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"runtime.device={self.device}: not usable here ({reason}); take runtime.device=cpu"
            ) from error

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """With this run's threads, precision and acceleration; those of before come back."""
        import torch

        threads, tf32 = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
        torch.set_num_threads(self.threads)
        # The rounding of TF32, 5e-4, is far above the tolerance of an equilibrium.
        torch.backends.cudnn.allow_tf32 = False
        try:
            with accelerated(self.graph, self.compile):
                yield
        finally:
            torch.set_num_threads(threads)
            torch.backends.cudnn.allow_tf32 = tf32

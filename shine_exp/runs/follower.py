"""A loop at work in a process that keeps no run: another one does, with the files of both."""

from pathlib import Path
from typing import Any

from shine_exp.loop import OuterLoop
from shine_exp.processes import processes
from shine_exp.runs.identity import RunIdentity
from shine_exp.runs.resume import resume
from shine_exp.runs.runtime import Runtime
from shine_exp.runs.signals import deferred


class Follower:
    """The steps of a run whose first process has a `Session`; nothing is measured or written."""

    def __init__(
        self,
        loop: OuterLoop[Any, Any],
        problem: Any,
        identity: RunIdentity,
        folder: Path,
        runtime: Runtime,
    ) -> None:
        self.loop = loop
        self.problem = problem
        self.identity = identity
        self.folder = folder
        self.runtime = runtime

    def run(self) -> None:
        """Until the session ends: KeyboardInterrupt where it is interrupted, by any process.

        Raises `UserError` where another process has been lost.
        """
        together = processes()
        with deferred() as interrupts:
            there = resume(self.loop, self.problem, self.identity, self.folder, self.runtime.device)
            if there is None:
                seed = self.identity.seed
                state = together.agreed(lambda: self.loop.init(self.problem, seed))
            else:
                state, _ = there
            while not together.any(bool(interrupts)):
                state = self.loop.step(self.problem, state)
            status = together.by_first(str)  # the session's, once all is saved
        if status == "interrupted":
            raise KeyboardInterrupt

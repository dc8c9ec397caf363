"""A loop at work in a process that keeps no run: another one does, with the files of both."""

from pathlib import Path
from typing import Any

from shine_exp.loop import OuterLoop
from shine_exp.processes import processes
from shine_exp.runs.identity import RunIdentity
from shine_exp.runs.resume import resume
from shine_exp.runs.runtime import Runtime
from shine_exp.runs.signals import deferred


def follow(
    loop: OuterLoop[Any, Any],
    problem: Any,
    identity: RunIdentity,
    folder: Path,
    runtime: Runtime,
) -> None:
    """The steps of a run whose first process has a `Session`; nothing is measured or written.

    Ends with the session: KeyboardInterrupt where it is interrupted, by any process. Raises
    `UserError` where another process has been lost.
    """
    together = processes()
    with deferred() as interrupts:
        there = resume(loop, problem, identity, folder, runtime.device)
        if there is None:
            state = together.agreed(lambda: loop.init(problem, identity.seed))
        else:
            state, _ = there
        while not together.any(bool(interrupts)):
            state = loop.step(problem, state)
        status = together.by_first(str)  # the session's, once all is saved
    if status == "interrupted":
        raise KeyboardInterrupt

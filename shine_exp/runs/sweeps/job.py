"""One run of a sweep in a process of its own: what its launcher gives it, and what it leaves.

A job's folder, RESULTS/.launcher/RUN, mirrors that of its run. `log.txt` is all that its processes
have printed; `refused.txt` is why the last one did not begin.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.types import RunMode

from shine_exp import durable
from shine_exp.runs.machine import job_id

LOG, REFUSED = "log.txt", "refused.txt"
POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# Exit codes after which a job is over; of another the scheduler knows whether it starts again.
OVER = (0, 1, 2)


@dataclass(frozen=True)
class Job:
    """`shine-run` with these arguments, which name a single run; `name` is for a scheduler."""

    name: str
    arguments: Sequence[str]
    folder: Path
    threads: int

    def __call__(self) -> None:
        """In this process, which prints into the job's log from here on.

        Raises `SystemExit` where interrupted, and whatever is a bug.
        """
        pin(self.threads)
        self._tell_slurm()
        print_into(self.folder / LOG)
        sys.argv = ["shine-run", *self.arguments]
        from shine_exp.runs.command import main

        try:
            main()
        except SystemExit as end:
            if end.code not in OVER:
                raise
        finally:
            sys.stdout.flush()

    def checkpoint(self) -> Any:
        """Of submitit, before it puts a job into the queue again: the same job."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)

    def _tell_slurm(self) -> None:
        """The jobs of an array have one name, until each has its own."""
        if "SLURM_JOB_ID" in os.environ:
            # SLURM_JOB_ID of the last job of an array is also the number of the array.
            command = ["scontrol", "update", f"JobId={job_id()}", f"JobName={self.name}"]
            with contextlib.suppress(OSError):
                subprocess.run(command, capture_output=True, check=False)


def pin(threads: int) -> None:
    """Bound the thread pools of this process and its children.

    Before NumPy is imported. Runs beside each other would otherwise fight for the cores, and be
    timed doing so.
    """
    os.environ.update(dict.fromkeys(POOLS, str(threads)))


def print_into(path: Path) -> None:
    """Standard output and errors of this process, after what the file has already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def folder_of_job(of_hydra: Any) -> Path | None:
    """Where the running command, by Hydra's configuration, is a job of a sweep."""
    if of_hydra.mode == RunMode.MULTIRUN:
        return Path(of_hydra.runtime.output_dir)
    return None if of_hydra.run.dir == "." else Path(of_hydra.run.dir)


def note_refusal(folder: Path | None, line: str) -> None:
    """Leave why a job did not begin, where the command is one."""
    if folder is not None:
        with contextlib.suppress(OSError):  # a disk may be full, which is what is to be told
            durable.write(folder / REFUSED, line.encode())


def forget_refusal(folder: Path) -> None:
    """Of the job's last process, before the next one."""
    (folder / REFUSED).unlink(missing_ok=True)

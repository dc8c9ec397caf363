"""The machine: its name for this job, and what it runs out of or refuses, in one line."""

import os
import re
from pathlib import Path

from shine_exp.errors import UserError, one_line

JOB_IDS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
OUT_OF_MEMORY = re.compile("out of memory|DefaultCPUAllocator|ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Of a GPU, or of this machine: PyTorch says both by a RuntimeError."""
    if isinstance(error, RuntimeError):
        return bool(OUT_OF_MEMORY.search(str(error)))
    return isinstance(error, MemoryError)


def refusal(error: Exception, folder: Path, step: int) -> UserError | None:
    """The machine's refusal to go on with the run in a folder; None where the error is another."""
    if is_out_of_memory(error):
        says = f"out of memory after step {step} ({one_line(error)})"
        return UserError(f"{folder}: {says}; smaller batches, models or data need less")
    if isinstance(error, OSError):
        then = "mend that, and the same command goes on from here"
        return UserError(f"{folder}: {one_line(error)}; {then}")
    return None


def job_id() -> str | None:
    """The scheduler's name of this job: of SLURM's arrays "array_task"."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return "{SLURM_ARRAY_JOB_ID}_{SLURM_ARRAY_TASK_ID}".format_map(os.environ)
    return next((os.environ[name] for name in JOB_IDS if name in os.environ), None)

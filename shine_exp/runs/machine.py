"""What a machine runs out of or refuses, in one line: no fault of the program, and no traceback."""

import re
from pathlib import Path

from shine_exp.errors import UserError, one_line

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

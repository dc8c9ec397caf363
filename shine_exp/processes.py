"""The processes that make one run together: torchrun's, or the tasks of a job of SLURM.

All of them train. The first, of rank 0, keeps the run besides: it alone holds the lock, writes
files and says where the run stands.
"""

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from shine_exp.errors import EndedElsewhere, UserError, one_line

# How many tasks run side by side. Not SLURM_NTASKS, which a script of sbatch sees alone.
TASKS = ("SLURM_STEP_NUM_TASKS", "SUBMITIT_LOCAL_NTASKS")
PATIENCE = timedelta(hours=1)  # with the first process, which evaluates while the others wait
T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process is the one of `rank`, from 0, of `n`. What one asks of all, all must ask."""

    rank: int = 0
    n: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def rows(self, n_samples: int) -> slice:
        """Which samples of a batch are this process's; each process has as many as any other.

        Raises `UserError` where that cannot be.
        """
        size, left = divmod(n_samples, self.n)
        if left or size == 0:
            raise UserError(
                f"a batch of {n_samples} samples cannot be shared evenly by {self.n} processes; "
                f"take a batch size that is a multiple of {self.n}, or another number of processes"
            )
        return slice(self.rank * size, (self.rank + 1) * size)

    def gathered(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        if self.n == 1:
            return [value]
        import torch.distributed

        values: list[Any] = [None] * self.n
        with hearing_all():
            torch.distributed.all_gather_object(values, value)
        return values

    def any(self, value: bool) -> bool:
        """Whether it is so in any process."""
        return any(self.gathered(value))

    def by_first(self, work: Callable[[], T]) -> T:
        """What `work` gives in the first process, which alone does it.

        Raises its error there, and `EndedElsewhere` in the others.
        """
        found: list[T] = []
        self.agreed(lambda: found.append(work()) if self.is_first else None)
        return self.gathered(found)[0][0]

    def agreed(self, work: Callable[[], T]) -> T:
        """What `work` gives here, if it has raised in no process.

        Otherwise its error is raised in one of those processes, the first, which will tell it, and
        `EndedElsewhere` in the others.
        """
        found: list[T] = []
        error: BaseException | None = None
        try:
            found.append(work())
        except BaseException as raised:
            if self.n == 1:
                raise
            error = raised
        codes = self.gathered(None if error is None else _exit_code(error))
        for rank, code in enumerate(codes):
            if code is not None:
                raise error if error is not None and rank == self.rank else EndedElsewhere(code)
        return found[0]


ALONE = Processes()
_present: ContextVar[Processes] = ContextVar("processes", default=ALONE)


def processes() -> Processes:
    """Those of the innermost block of `joined`; elsewhere this one alone."""
    return _present.get()


def started() -> Processes:
    """Those that this one was started among, by torchrun, SLURM or submitit."""
    if "WORLD_SIZE" not in os.environ and any(int(os.environ.get(name, 1)) > 1 for name in TASKS):
        from submitit.helpers import TorchDistributedEnvironment

        TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
    return Processes(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """With all processes that this one was started among: of PyTorch's, a process group.

    On GPUs each gets one of its machine's, by its number there, as the device "cuda". Raises
    `UserError` where the others cannot be met.
    """
    here = started()
    if here.n == 1:
        yield here
        return
    import torch
    from torch import distributed

    backend = "gloo"
    if device == "cuda" and torch.cuda.is_available():
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    try:
        distributed.init_process_group(backend, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"RANK={here.rank} of WORLD_SIZE={here.n}: cannot meet the other processes "
            f"({one_line(error)}); start them by torchrun, or as tasks of SLURM"
        ) from error
    token = _present.set(here)
    try:
        yield here
    finally:
        _present.reset(token)
        # A network that still lies in a cycle of references holds the group, whose threads would
        # then end with the interpreter, and abort it.
        gc.collect()
        distributed.destroy_process_group()


@contextmanager
def hearing_all() -> Iterator[None]:
    """Raises `UserError` where another process is not there any more."""
    try:
        yield
    except RuntimeError as error:
        if not (type(error).__module__.startswith("torch.distributed") or "gloo" in str(error)):
            raise
        raise UserError(
            f"another process of this run has ended ({one_line(error)}); "
            "the same command goes on from the last checkpoint"
        ) from error


def _exit_code(error: BaseException) -> int:
    """Of the command that ends by this error."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 2 if isinstance(error, UserError | OSError | MemoryError) else 1

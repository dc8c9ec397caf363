"""Where a training stands: the network, its optimiser, and what the epoch has logged."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from shine_exp.deq.layer import DEQ
from shine_exp.training.jacobian_penalty import JacobianPenalty
from shine_exp.training.step import Numbers, TrainingStep

Log = dict[str, list[float]]  # a number per step of the epoch
FINITE = ("train_loss", "gradient_norm")
SOLVES = ("inner", "backward")


@dataclass
class TrainState:
    """The network and its optimiser after `step` steps, and the log of the epoch.

    A step changes it in place. It holds no random state: what is random at a step follows from the
    seed and the number of the step. What a step has found stays on the device, in `unread`, until
    `read` takes it from there: to read it after each step would make the device wait for Python.
    `unsolved` are the samples of all steps whose forward or backward solve missed its tolerance,
    of `solves` in all.
    """

    step: int
    seed: int
    network: nn.Module
    layer: DEQ  # that of the network
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    training_step: TrainingStep
    penalty: JacobianPenalty | None = None
    log: Log = field(default_factory=dict)
    unread: list[Numbers] = field(default_factory=list)
    missed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SOLVES, 0))
    solves: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SOLVES, 0))

    @property
    def unsolved(self) -> dict[str, int]:
        self.read()
        return self.missed

    def count(self, kind: str, solved: Tensor) -> None:
        """Add "inner" or "backward" solves: which samples (batch,), bool, met their tolerance."""
        self.solves[kind] += solved.numel()
        self.missed[kind] += int((~solved).sum())

    def read(self) -> None:
        """Take what the last steps have found into the log, in one transfer from the device.

        Where one of them is not finite, the network has stood still since: the state goes back to
        the end of that step.
        """
        steps, self.unread = self.unread, []
        for i, numbers in enumerate(_read(steps)):
            for kind in SOLVES:
                self.solves[kind] += int(numbers.pop(f"solves_{kind}", 0))
                self.missed[kind] += int(numbers.pop(f"missed_{kind}", 0))
            for name, value in numbers.items():
                self.log.setdefault(name, []).append(value)
            if self.not_finite:
                self.step -= len(steps) - 1 - i
                break

    @property
    def not_finite(self) -> list[str]:
        """The entries of the last step in the log that are not finite, and must be."""
        return [name for name in FINITE if not math.isfinite(self.log.get(name, [0.0])[-1])]

    def state_dict(self) -> dict[str, Any]:
        self.read()
        return {
            "step": self.step,
            "seed": self.seed,
            "log": self.log,
            "unsolved": self.missed,
            "solves": self.solves,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }


def _read(steps: list[Numbers]) -> list[dict[str, float]]:
    """All numbers of some steps, by one transfer."""
    found = [t for step in steps for t in step.found.values()]
    values = iter(torch.stack(found).tolist() if found else ())
    return [
        {**{name: next(values) for name in step.found}, **step.known, **step.times}
        for step in steps
    ]

"""Where a training stands: the network, its optimiser, and what the epoch has logged."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from shine_exp.deq.layer import DEQ

Log = dict[str, list[float]]  # a number per step of the epoch


@dataclass
class TrainState:
    """The network and its optimiser after `step` steps, and the log of the epoch.

    A step changes it in place. It holds no random state: what is random at a step follows from the
    seed and the number of the step. The samples whose forward or backward solve missed its
    tolerance are counted over all steps, on the device.
    """

    step: int
    seed: int
    network: nn.Module
    layer: DEQ  # that of the network
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    log: Log = field(default_factory=dict)
    unsolved_inner: Tensor | int = 0
    unsolved_backward: Tensor | int = 0
    # All solves so far, of which these have missed it.
    solves: dict[str, int] = field(default_factory=lambda: {"inner": 0, "backward": 0})

    @property
    def unsolved(self) -> dict[str, int]:
        return {"inner": int(self.unsolved_inner), "backward": int(self.unsolved_backward)}

    def count_inner(self, solved: Tensor) -> None:
        """Add forward solves: which samples (batch,), bool, reached their tolerance."""
        self.solves["inner"] += solved.numel()
        self.unsolved_inner = self.unsolved_inner + (~solved).sum()

    def count_backward(self, solved: Tensor) -> None:
        """The same of backward solves."""
        self.solves["backward"] += solved.numel()
        self.unsolved_backward = self.unsolved_backward + (~solved).sum()

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seed": self.seed,
            "log": self.log,
            "unsolved": self.unsolved,
            "solves": self.solves,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

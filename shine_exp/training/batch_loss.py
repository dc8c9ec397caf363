"""The loss of a training step's batch: of one process, or shared by several."""

from copy import copy
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from shine_exp.deq.report import Report
from shine_exp.errors import UserError
from shine_exp.processes import Processes, hearing_all, processes
from shine_exp.training.task import Task

COUNTS = ("steps", "evals", "products")  # of a report: those of the slowest sample


class BatchLoss:
    """L of a batch and its gradient, in one process."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __call__(self, task: Task, batch: Any) -> Tensor:
        return task.loss(self.network, batch)

    def backward(self, loss: Tensor) -> None:
        """Leave the gradient of L with the network's parameters."""
        loss.backward()

    def total(self, loss: Tensor) -> Tensor:
        """L, of what a call has returned."""
        return loss.detach().reshape(())

    def whole(self, report: Report | None) -> Report | None:
        """What the layer reports of all samples."""
        return report


class SharedLoss(BatchLoss):
    """L = Σ ω_r L_r over the shares of a batch that n processes take (`Task.share`).

    Each differentiates n ω_r L_r, of which PyTorch's DistributedDataParallel takes the mean: every
    process has the gradient of L, and makes the same update. A call returns the L_r of this one.
    """

    def __init__(self, network: nn.Module, shared_by: Processes) -> None:
        super().__init__(network)
        self.shared_by = shared_by
        self.weight: Tensor | float = 1.0  # ω_r of the last call
        self._distributed = DistributedDataParallel(_LossModule(network))

    def __call__(self, task: Task, batch: Any) -> Tensor:
        share, self.weight = task.share(batch, self.shared_by)
        with hearing_all():
            loss: Tensor = self._distributed(task, share)
        return loss

    def backward(self, loss: Tensor) -> None:
        with hearing_all():
            (self.shared_by.n * self.weight * loss).backward()

    def total(self, loss: Tensor) -> Tensor:
        total = super().total(self.weight * loss)
        with hearing_all():
            distributed.all_reduce(total)
        return total

    def whole(self, report: Report | None) -> Report | None:
        """Those of the first process come first; a count is the largest of all processes."""
        if report is None:
            return None
        whole = copy(report)
        counts = torch.tensor([getattr(report, name) for name in COUNTS])
        with hearing_all():
            for name, value in vars(report).items():
                if isinstance(value, Tensor):
                    own = value.double()
                    parts = [torch.empty_like(own) for _ in range(self.shared_by.n)]
                    distributed.all_gather(parts, own)
                    setattr(whole, name, torch.cat(parts).to(value.dtype))
            distributed.all_reduce(counts, distributed.ReduceOp.MAX)
        for name, count in zip(COUNTS, counts.tolist(), strict=True):
            setattr(whole, name, count)
        return whole


class _LossModule(nn.Module):
    """A loss as the output of a module, which is what PyTorch distributes.

    A task's loss may ask a network for more than its output.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, task: Task, batch: Any) -> Tensor:
        return task.loss(self.network, batch)


def batch_loss(network: nn.Module) -> BatchLoss:
    """That of the processes of this run."""
    together = processes()
    return BatchLoss(network) if together.n == 1 else SharedLoss(network, together)


def with_shared_statistics(network: nn.Module, opa: int | None) -> nn.Module:
    """The network, whose batch normalisations take their means over all processes of the run.

    On a CPU, for which PyTorch has none that do, each process has means of its own.

    Raises `UserError` for OPA, whose solver asks for the loss as often as its own samples need.
    """
    together, device = processes(), next(network.parameters()).device
    has_statistics = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())
    if together.n == 1 or device.type != "cuda" or not has_statistics:
        return network
    if opa is not None:
        raise UserError(
            f"solver.opa={opa}: the network's batch normalisation would wait for all "
            f"{together.n} processes in every step of the solver; start one process"
        )
    return nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-any-return]

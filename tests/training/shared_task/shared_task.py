"""A task that several processes share, in which something happens to one of them, once."""

import os
import signal
from pathlib import Path

import torch
from torch import Tensor, nn

from shine_exp.processes import Processes, processes
from shine_exp.randomness import generator
from shine_exp.training.task import LayerFactory, Task


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(0.5 * self.linear(z) + x)


class Regression(Task):
    """‖z* − y‖² of a cell of four, whose process of rank `struck` gets `signal` at `step`."""

    columns = ("norm",)
    steps_per_epoch = 4

    def __init__(self, struck: int, step: int, signal: str) -> None:
        self.struck, self.step, self.signal = struck, step, signal

    def network(self, layer: LayerFactory) -> nn.Module:
        return nn.ModuleList([layer(Cell())])

    def batch(self, seed: int, step: int) -> tuple[Tensor, Tensor]:
        spared = Path("spared")
        here = processes()
        if step == self.step and here.n > 1 and here.rank == self.struck and not spared.exists():
            spared.touch()
            os.kill(os.getpid(), signal.Signals[self.signal])
        x, y = torch.randn(2, 6, 4, generator=generator(seed, step))
        return x, y

    def share(
        self, batch: tuple[Tensor, Tensor], processes: Processes
    ) -> tuple[tuple[Tensor, Tensor], float]:
        rows = processes.rows(len(batch[0]))
        return (batch[0][rows], batch[1][rows]), 1 / processes.n

    def loss(self, network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return (network[0](torch.zeros_like(x), x) - y).square().mean()

    def evaluate(self, network: nn.Module) -> dict[str, float]:
        return {"norm": float(network[0].cell.linear.weight.norm())}

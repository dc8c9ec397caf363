"""The adding problem (Hochreiter & Schmidhuber 1997): the sum of the two marked numbers of a row.

    z* = tanh(x + A(z*) V),    A(z) = softmax(z K zᵀ):

a network whose one layer is the equilibrium of self-attention.
"""

import torch
from torch import Tensor, nn

from shine_exp.randomness import generator
from shine_exp.training.task import LayerFactory, Task


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(2))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        weights = torch.softmax(z @ self.key(z).mT, dim=-1)
        return torch.tanh(x + 0.5 * weights @ self.value(z))


class Network(nn.Module):
    def __init__(self, width: int, layer: LayerFactory) -> None:
        super().__init__()
        self.embed, self.read = nn.Linear(2, width), nn.Linear(width, 1)
        self.equilibrium = layer(Attention(width))

    def forward(self, rows: Tensor) -> Tensor:
        x = self.embed(rows)
        return self.read(self.equilibrium(torch.zeros_like(x), x)).mean(dim=1)[:, 0]


class Adding(Task):
    columns = ("test_loss",)
    steps_per_epoch = 50

    def __init__(self, length: int, width: int) -> None:
        self.length, self.width = length, width

    def network(self, layer: LayerFactory) -> Network:
        return Network(self.width, layer)

    def batch(self, seed: int, step: int, n: int = 32) -> tuple[Tensor, Tensor]:
        drawn = generator(seed, step)
        numbers = torch.rand(n, self.length, generator=drawn)
        marked = torch.rand(n, self.length, generator=drawn).argsort(dim=1) < 2
        return torch.stack([numbers, marked.float()], dim=-1), (numbers * marked).sum(dim=1)

    def loss(self, network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.mse_loss(network(batch[0]), batch[1])

    def evaluate(self, network: nn.Module) -> dict[str, float]:
        return {"test_loss": float(self.loss(network, self.batch(0, 10**6, 256)))}

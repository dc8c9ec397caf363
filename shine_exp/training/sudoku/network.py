"""A network that reads a Sudoku, thinks until nothing changes, and names a digit for each cell."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from shine_exp.training.sudoku.cells import Block
from shine_exp.training.sudoku.grids import units_of
from shine_exp.training.task import LayerFactory


class SudokuNetwork(nn.Module):
    """Clues (batch, b⁴), int64 → logits (batch, b⁴, b²) of the digits 1 to b².

    x is the sum of embeddings of a cell's clue, row, column and box; z* = f(z*, x) from z = 0;
    the logits are linear in z*.
    """

    def __init__(self, box: int, cell: Block, layer: LayerFactory) -> None:
        super().__init__()
        n, width = box**2, cell.width
        self.clue = nn.Embedding(n + 1, width)
        self.unit = nn.Embedding(3 * n, width)
        for embedding in (self.clue, self.unit):
            nn.init.normal_(embedding.weight, std=0.5)
        self.equilibrium = layer(cell)
        self.head = nn.Linear(width, n)
        self.register_buffer("units", torch.tensor(units_of(box)), persistent=False)

    def embed(self, clues: Tensor) -> Tensor:
        """x (batch, b⁴, width)."""
        x: Tensor = self.clue(clues) + self.unit(self.units).sum(dim=1)
        return x

    def answer(self, x: Tensor, criterion: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The logits; `criterion` of them is the loss that OPA is to be aware of."""
        loss = None if criterion is None else lambda z: criterion(self.head(z))
        z = self.equilibrium(torch.zeros_like(x), x, loss=loss)
        logits: Tensor = self.head(z)
        return logits

    def forward(self, clues: Tensor, criterion: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        return self.answer(self.embed(clues), criterion)

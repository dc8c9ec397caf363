"""How many rank-one factors each sample of a batch owns in a memory that all samples share."""

import torch
from torch import Tensor

from shine_exp.errors import UserError


class FactorCount:
    """The explicit count of valid factors, per sample, and the count at the sample's best iterate.

    All running samples write the same slot, `next`. When the memory is full they restart together,
    while the samples that stopped before keep what they have: factors of two cycles are never
    mixed in one sample.
    """

    def __init__(self, batch: int, capacity: int, device: torch.device) -> None:
        if capacity < 1:
            raise UserError(
                f"the memory of a quasi-Newton solver must hold at least one update, not {capacity}"
            )
        self.capacity = capacity
        self.next = 0
        self.extent = 0  # slots that any sample has ever used
        self.count = torch.zeros(batch, dtype=torch.long, device=device)
        self._at_best = torch.zeros_like(self.count)

    @property
    def full(self) -> bool:
        return self.next == self.capacity

    def valid(self) -> Tensor:
        """Which slots hold a factor of the sample: (batch, extent)."""
        return torch.arange(self.extent, device=self.count.device) < self.count[:, None]

    def in_cycle(self, moved: Tensor) -> Tensor:
        """The samples of the mask that have filled all slots before `next` and may write it.

        Not those that stopped at a full memory when the others restarted.
        """
        return moved & (self.count == self.next)

    def add(self, learned: Tensor) -> None:
        """The samples of the mask (batch,) have written the slot `next`."""
        self.next += 1
        self.extent = max(self.extent, self.next)
        self.count = torch.where(learned, self.next, self.count)

    def restart(self, running: Tensor) -> None:
        """The samples of the mask drop their factors.

        What they learn from here on all counts, best iterate or not.
        """
        self.next = 0
        self.count = torch.where(running, 0, self.count)
        self._at_best = torch.where(running, self.capacity, self._at_best)

    def mark_best(self, improved: Tensor) -> None:
        """The samples of the mask are at their best iterate so far; if it opens a cycle, all of
        the cycle counts.
        """
        known = torch.where(self.count > 0, self.count, self.capacity)
        self._at_best = torch.where(improved, known, self._at_best)

    def roll_back(self) -> None:
        """Drop the factors that came after the best iterate, unless that lies in a cycle that is
        forgotten.
        """
        self.count = torch.minimum(self.count, self._at_best)

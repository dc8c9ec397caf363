"""How many rank-one factors each sample of a batch owns in a memory that all samples share."""

import torch
from torch import Tensor

from shine_exp.errors import UserError


class FactorCount:
    """The number of valid factors of each sample, now and at the sample's best iterate.

    All running samples write the same slot, `next`. When the memory is full they restart together
    and begin a new cycle, while the samples that stopped before keep what they have: no sample
    ever mixes the factors of two cycles.
    """

    def __init__(self, batch: int, capacity: int, device: torch.device) -> None:
        if capacity < 1:
            raise UserError(
                f"the memory of a quasi-Newton solver must hold at least one update, not {capacity}"
            )
        self.capacity = capacity
        self.next = 0
        self.extent = 0  # how many slots any sample has ever used
        self.count = torch.zeros(batch, dtype=torch.long, device=device)
        self._at_best = torch.zeros_like(self.count)

    @property
    def full(self) -> bool:
        return self.next == self.capacity

    def valid(self) -> Tensor:
        """Which slots hold a factor of the sample, (batch, extent)."""
        return torch.arange(self.extent, device=self.count.device) < self.count[:, None]

    def in_cycle(self, moved: Tensor) -> Tensor:
        """The samples of the mask (batch,) that own all slots before `next` and may write it.

        A sample that stopped at a full memory when the others restarted does not.
        """
        return moved & (self.count == self.next)

    def add(self, updated: Tensor) -> None:
        """Count the slot `next` as written by the samples of the mask (batch,)."""
        self.next += 1
        self.extent = max(self.extent, self.next)
        self.count = torch.where(updated, self.next, self.count)

    def restart(self, running: Tensor) -> None:
        """Drop the factors of the samples of the mask (batch,).

        The factors that belonged to the best iterate are gone with them, so `roll_back` keeps
        whatever such a sample takes in from here on.
        """
        self.next = 0
        self.count = torch.where(running, 0, self.count)
        self._at_best = torch.where(running, self.capacity, self._at_best)

    def mark_best(self, improved: Tensor) -> None:
        """Note that the samples of the mask (batch,) are at their best iterate so far.

        If that iterate opens a cycle, it owns no factor yet, and the whole cycle is kept.
        """
        known = torch.where(self.count > 0, self.count, self.capacity)
        self._at_best = torch.where(improved, known, self._at_best)

    def roll_back(self) -> None:
        """Drop the factors that came after the best iterate of each sample.

        Nothing is dropped where that iterate lies in a cycle before the last restart.
        """
        self.count = torch.minimum(self.count, self._at_best)

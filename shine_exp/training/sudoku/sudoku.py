"""Sudoku as a task: whole grids, filled in by a network with an equilibrium layer."""

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from shine_exp.errors import UserError
from shine_exp.processes import Processes
from shine_exp.randomness import generator
from shine_exp.training.sudoku.cells import Block
from shine_exp.training.sudoku.exact import exact, input_gradient, with_more_steps
from shine_exp.training.sudoku.network import SudokuNetwork
from shine_exp.training.sudoku.puzzles import Puzzles, draw_puzzles
from shine_exp.training.sudoku.symmetries import at_random
from shine_exp.training.task import LayerFactory, Task

EVALUATION_BATCH = 250
EPOCH = 1  # of the two streams of random numbers: the order of an epoch, and what a step draws


class Sudoku(Task):
    """min over w of the mean cross-entropy of the digits in the empty cells of Sudokus.

    The grid has boxes of `box` × `box` cells. `n_train` and `n_test` puzzles, each with one
    solution and `fewest_clues` to `most_clues` clues, follow from the seed; no grid is in both
    sets. An epoch sees every training puzzle once, in an order of its own, but for a last batch
    that is not full. With `augment` the puzzles of a batch are relabelled and permuted at random.

    The trace has, of the test puzzles, the mean cross-entropy and the share of whole grids that
    are right: `whole_grids` with the solver's own steps, `whole_grids_longer` with `longer_steps`
    (or so many applications of the cell, where they are unrolled). `gradient_cosine` is the median
    over `n_compared` test puzzles of

        cos(∂L/∂x, ∂L/∂x by a solved forward and backward pass),

    x the embedded puzzle, both in float64: NaN where no sample was solved within `exact_steps`.
    """

    columns = ("test_loss", "whole_grids", "whole_grids_longer", "gradient_cosine")

    def __init__(
        self,
        cell: Callable[[], Block],
        box: Literal[2, 3],
        n_train: PositiveInt,
        n_test: PositiveInt,
        fewest_clues: PositiveInt,
        most_clues: PositiveInt,
        batch_size: PositiveInt,
        augment: bool,
        longer_steps: PositiveInt,
        n_compared: NonNegativeInt,
        exact_steps: PositiveInt,
        seed: int,
        device: str,
    ) -> None:
        if not fewest_clues <= most_clues < box**4:
            raise UserError(
                f"problem.fewest_clues={fewest_clues}, problem.most_clues={most_clues}: a puzzle "
                f"has from fewest_clues to most_clues clues, and fewer than its {box**4} cells"
            )
        self.cell, self.box, self.device = cell, box, device
        self.batch_size, self.augment, self.longer_steps = batch_size, augment, longer_steps
        self.n_compared, self.exact_steps = n_compared, exact_steps
        self.train, self.test = (
            puzzles.to(device)
            for puzzles in draw_puzzles(box, (n_train, n_test), (fewest_clues, most_clues), seed)
        )

    @property
    def steps_per_epoch(self) -> int:
        return max(1, len(self.train) // self.batch_size)

    @property
    def facts(self) -> dict[str, int | str]:
        sizes: dict[str, int | str] = {"n_train": len(self.train), "n_test": len(self.test)}
        return sizes | {"cell": type(self.cell()).__name__}

    def network(self, layer: LayerFactory) -> SudokuNetwork:
        return SudokuNetwork(self.box, self.cell(), layer).to(self.device)

    def batch(self, seed: int, step: int) -> Puzzles:
        epoch, place = divmod(step, self.steps_per_epoch)
        order = torch.randperm(len(self.train), generator=generator(seed, epoch, EPOCH))
        chosen = order[place * self.batch_size : (place + 1) * self.batch_size]
        puzzles = self.train[chosen.to(self.device)]
        return at_random(puzzles, self.box, generator(seed, step)) if self.augment else puzzles

    def loss(self, network: nn.Module, batch: Puzzles) -> Tensor:
        criterion = batch.criterion()
        loss: Tensor = criterion(network(batch.clues, criterion))
        return loss

    def share(self, batch: Puzzles, processes: Processes) -> tuple[Puzzles, Tensor]:
        """Its weight is its part of the empty cells, over which the mean is taken."""
        share = batch[processes.rows(len(batch))]
        n_empty, n_in_all = ((part.clues == 0).sum().double() for part in (share, batch))
        return share, n_empty / n_in_all

    def evaluate(self, network: nn.Module) -> dict[str, float]:
        assert isinstance(network, SudokuNetwork)
        loss, whole_grids = self._test(network)
        with with_more_steps(network.equilibrium, self.longer_steps):
            _, whole_grids_longer = self._test(network)
        return {
            "test_loss": loss,
            "whole_grids": whole_grids,
            "whole_grids_longer": whole_grids_longer,
            "gradient_cosine": self._gradient_cosine(network),
        }

    def _test(self, network: SudokuNetwork) -> tuple[float, float]:
        """The mean loss of the test puzzles, and the share of whole grids that are right."""
        loss, n_right = 0.0, 0
        for start in range(0, len(self.test), EVALUATION_BATCH):
            batch = self.test[slice(start, start + EVALUATION_BATCH)]
            logits = network(batch.clues)
            loss += len(batch) * float(batch.criterion()(logits))
            n_right += int(batch.are_right(logits).sum())
        return loss / len(self.test), n_right / len(self.test)

    def _gradient_cosine(self, network: SudokuNetwork) -> float:
        batch = self.test[slice(0, self.n_compared)]
        solved, truth = input_gradient(exact(network, self.exact_steps), batch)
        _, own = input_gradient(deepcopy(network).double(), batch)
        cosines = torch.cosine_similarity(own.flatten(1), truth.flatten(1))[solved]
        return float(cosines.median()) if len(cosines) else math.nan

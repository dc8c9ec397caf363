"""Which operation on which edge: the outer variables are the logits of a supernet's mixture.

    G(α, θ) = mean CE(net(softmax α, θ)(x), y) + ½ c ‖θ‖²        over training rows
    F(α, θ) = mean CE(net(softmax α, θ)(x), y) + price · size(α)  over outer rows

(Liu et al. 2019, DARTS.) size(α) is the mean number of weights on the edges, as a share of the
largest. What is chosen is the operation with the largest α on each edge.
"""

import hashlib
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import cross_entropy

from shine_exp.bilevel.problems.architecture.network_table import OURS, Choice, choices, read_table
from shine_exp.bilevel.problems.architecture.supernet import CONV, EDGES, OPERATIONS, Supernet
from shine_exp.bilevel.problems.autodiff import AutodiffProblem
from shine_exp.data.io.files import InputFile, absolute
from shine_exp.data.multiclass import LabelledRows, MulticlassDataset, MulticlassSplits
from shine_exp.data.stratified import stratified_split
from shine_exp.errors import UserError

LARGEST_SIDE = 16  # pixels: the matrix of a convolution has (side / 2)⁴ width² entries
BOUND = 10.0  # of α: softmax is 0 and 1 there, to five digits


class Architecture(AutodiffProblem):
    """The problem of a supernet on three sets of images. α is (3 edges, 5 operations), α₀ = 0.

    The trace has F as `outer_loss`, the held-out mean cross-entropy and accuracy of the mixture
    as `test_loss` and `accuracy`; and with a table `rank` and `regret` of the network that would
    be chosen now, by its own outer loss after training it by itself. These leave the price out.
    """

    def __init__(
        self,
        splits: MulticlassSplits,
        seed: int,
        device: str,
        width: int,
        penalty: float,
        price: float,
        table: Path | None,
    ) -> None:
        self.setting = _setting(splits, seed, width, penalty)
        self.table = None if table is None else read_table(table, self.setting)
        self.train, self.outer_rows, self.test = (
            _tensors(rows, device) for _, rows in splits.parts()
        )
        self.net = Supernet(_side(splits), splits.n_classes, width, device)
        self.theta0 = self.net.start(seed)
        self._penalty, self._price = penalty, price
        alpha = torch.zeros(len(EDGES), len(OPERATIONS), dtype=torch.float64, device=device)
        super().__init__(
            lambda alpha, theta: self.training_loss(alpha.softmax(dim=1), theta),
            lambda alpha, theta: self.priced_loss(alpha.softmax(dim=1), theta),
            alpha,
            self.theta0,
            lower=-BOUND,
            upper=BOUND,
            evaluate=self._measure,
        )

    def training_loss(self, mixture: Tensor, theta: dict[str, Tensor]) -> Tensor:
        """G of a mixture (3, 5), which may be a single network."""
        square = torch.stack([part.square().sum() for part in theta.values()]).sum()
        return self.cross_entropy(mixture, theta, self.train) + 0.5 * self._penalty * square

    def priced_loss(self, mixture: Tensor, theta: dict[str, Tensor]) -> Tensor:
        """F of a mixture (3, 5)."""
        weights = self.net.n_weights()
        size = (mixture @ weights).mean() / weights.max()
        return self.cross_entropy(mixture, theta, self.outer_rows) + self._price * size

    def cross_entropy(
        self, mixture: Tensor, theta: dict[str, Tensor], rows: tuple[Tensor, Tensor]
    ) -> Tensor:
        """The mean over rows."""
        images, labels = rows
        return cross_entropy(self.net(mixture, theta, images), labels)

    def accuracy(self, mixture: Tensor, theta: dict[str, Tensor]) -> float:
        """The share of the held-out rows that are classified rightly."""
        images, labels = self.test
        return float((self.net(mixture, theta, images).argmax(dim=1) == labels).double().mean())

    @property
    def facts(self) -> dict[str, Any]:
        """Beside sizes, with a table: what 3 × 3 on each edge, and choosing at random, come to."""
        sets = {"n_train": self.train, "n_outer": self.outer_rows, "n_test": self.test}
        facts: dict[str, Any] = {name: len(labels) for name, (_, labels) in sets.items()}
        facts["n_weights"] = self._theta0.numel()
        if self.table is not None:
            everywhere = (CONV, CONV, CONV)
            facts |= {
                "rank_conv3x3": self.table.rank(everywhere),
                "regret_conv3x3": round(self.table.regret(everywhere), 4),
                "rank_random": round(fmean(map(self.table.rank, choices())), 4),
                "regret_random": round(fmean(map(self.table.regret, choices())), 4),
            }
        return facts

    def _measure(self, alpha: Tensor, theta: dict[str, Tensor]) -> dict[str, float]:
        mixture = alpha.softmax(dim=1)
        row = {
            "outer_loss": float(self.priced_loss(mixture, theta)),
            "test_loss": float(self.cross_entropy(mixture, theta, self.test)),
            "accuracy": self.accuracy(mixture, theta),
        }
        if self.table is not None:
            choice = chosen(alpha)
            row |= {"rank": self.table.rank(choice), "regret": self.table.regret(choice)}
        return row


def architecture(
    data: MulticlassDataset,
    seed: int,
    device: str,
    n_train: PositiveInt,
    n_outer: PositiveInt,
    width: PositiveInt,
    penalty: PositiveFloat,
    price: NonNegativeFloat,
    table: bool | InputFile,
) -> Architecture:
    """The supernet's problem on the split of `data` that belongs to `seed`.

    With `table` = True ranks come from the table in this package, else from the named file; False
    has none. Raises `DataError` where the split lacks a class, and `UserError` where the rows are
    no small square images of grey values, or where the table has not all networks.
    """
    splits = stratified_split(data, n_train, n_outer, seed)
    path = None if table is False else OURS if table is True else absolute(table)
    return Architecture(splits, seed, device, width, penalty, price, path)


def chosen(alpha: Tensor) -> Choice:
    """The operation with the largest logit on each edge of α (3, 5); of equals, the first."""
    first, second, third = (int(operation) for operation in alpha.argmax(dim=1))
    return first, second, third


def _setting(splits: MulticlassSplits, seed: int, width: int, penalty: float) -> str:
    """What a trained network depends on beside its operations, as eight hexadecimal digits."""
    parts = f"{splits.digest} {seed} {width} {float(penalty)!r}"
    return hashlib.sha256(parts.encode()).hexdigest()[:8]


def _side(splits: MulticlassSplits) -> int:
    """Raises `UserError` unless the rows are square images of one channel and few pixels."""
    shape = splits.shape
    if shape is None or shape[0] != 1 or shape[1] != shape[2] or shape[1] > LARGEST_SIDE:
        found = "no images" if shape is None else f"images of (channels, height, width) = {shape}"
        raise UserError(
            f"{splits.name}: problem=architecture takes square grey images of at most "
            f"{LARGEST_SIDE} × {LARGEST_SIDE} pixels, and this data set has {found}"
        )
    return shape[1]


def _tensors(rows: LabelledRows, device: str) -> tuple[Tensor, Tensor]:
    x, labels = rows
    return torch.as_tensor(x, device=device), torch.as_tensor(labels, device=device)

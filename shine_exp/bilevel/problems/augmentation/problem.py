"""The ranges of a random augmentation as outer variables.

    G(α, θ) = mean over i, j of CE(net(θ, warp(x_i, ε_ij e^α)), y_i) + ½ c ‖θ‖²
    F(θ)    = mean CE(net(θ, x), y) over outer rows

α holds the logarithms of the half-ranges of an affine map (`shine_exp.data.affine`), one set of
five or, as in CADDA (Rommel et al. 2022), one set per class. The noises ε_ij, uniform in (−1, 1)⁵,
are drawn once for each image: so G is deterministic, and a minimiser has an inverse estimate.
"""

from typing import Any

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import cross_entropy

from shine_exp.bilevel.problems.augmentation.classifiers import Classifier, Weights
from shine_exp.bilevel.problems.autodiff import AutodiffProblem
from shine_exp.data.affine import LARGEST, NAMES, Ranges, units, warp
from shine_exp.data.multiclass import LabelledRows, MulticlassSplits
from shine_exp.errors import UserError
from shine_exp.randomness import generator

LEAST = 1e-3  # half-range, in the units of the map: less than a hundredth of a pixel


class Augment(AutodiffProblem):
    """The problem of three sets of images. α is (5,), or (classes, 5) with `per_class`.

    The trace has F as `outer_loss`, the held-out mean cross-entropy and accuracy as `test_loss` and
    `accuracy`, and each half-range in the units of `Ranges`: with a set per class the mean over
    classes as `rotation`, and that of class 3 as `rotation_3`.
    """

    def __init__(
        self,
        splits: MulticlassSplits,
        model: Classifier,
        start: Ranges,
        seed: int,
        device: str,
        n_copies: int,
        penalty: float,
        per_class: bool,
    ) -> None:
        if splits.shape is None:
            raise UserError(f"{splits.name}: problem=augment takes images, and these rows are none")
        _, height, width = splits.shape
        self.train, self.outer_rows, self.test = (
            _images(rows, splits.shape, device) for _, rows in splits.parts()
        )
        self._model, self._penalty, self._per_class = model, penalty, per_class
        self._units = units(height, width).to(device)
        n_train = len(splits.train[1])
        noise = torch.rand(
            n_copies, n_train, len(NAMES), dtype=torch.float64, generator=generator(seed, 2)
        )
        self._noise = (2 * noise - 1).to(device)
        self._at: tuple[Tensor, Tensor] | None = None
        alpha = _start(start, height, width).to(device)
        theta = model.start(splits.shape, splits.n_classes, seed)
        super().__init__(
            self._training_loss,
            lambda _, theta: self._cross_entropy(theta, *self.outer_rows),
            alpha.expand(splits.n_classes, -1) if per_class else alpha,
            {name: weight.to(device) for name, weight in theta.items()},
            evaluate=self._measure,
        )
        largest = torch.tensor(LARGEST, dtype=torch.float64, device=device)
        self.lower, self.upper = torch.full_like(largest, LEAST).log(), largest.log()

    def augmented(self, alpha: Tensor) -> Tensor:
        """All copies of the training images, (copies · n, channels, height, width).

        A solve asks for those of one α many times, and in the meantime they are kept.
        """
        if alpha.requires_grad:
            return self._warped(alpha)
        if self._at is None or not torch.equal(self._at[0], alpha):
            self._at = alpha.clone(), self._warped(alpha)
        return self._at[1]

    def _warped(self, alpha: Tensor) -> Tensor:
        images, labels = self.train
        half = alpha.exp()[labels] if self._per_class else alpha.exp()
        n_copies = len(self._noise)
        return warp(images.repeat(n_copies, 1, 1, 1), (self._noise * half).flatten(0, 1))

    def _training_loss(self, alpha: Tensor, theta: Weights) -> Tensor:
        _, labels = self.train
        loss = self._cross_entropy(theta, self.augmented(alpha), labels.repeat(len(self._noise)))
        square = torch.stack([weight.square().sum() for weight in theta.values()]).sum()
        return loss + 0.5 * self._penalty * square

    def _cross_entropy(self, theta: Weights, images: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(self._model(theta, images), labels)

    def _measure(self, alpha: Tensor, theta: Weights) -> dict[str, float]:
        images, labels = self.test
        right = self._model(theta, images).argmax(dim=1) == labels
        row = {
            "outer_loss": float(self._cross_entropy(theta, *self.outer_rows)),
            "test_loss": float(self._cross_entropy(theta, images, labels)),
            "accuracy": float(right.double().mean()),
        }
        half = (alpha.exp() / self._units).reshape(-1, len(NAMES))
        row |= dict(zip(NAMES, half.mean(dim=0).tolist(), strict=True))
        if self._per_class:
            for label, ranges in enumerate(half.tolist()):
                row |= {f"{name}_{label}": at for name, at in zip(NAMES, ranges, strict=True)}
        return row

    @property
    def facts(self) -> dict[str, Any]:
        sets = {"n_train": self.train, "n_outer": self.outer_rows, "n_test": self.test}
        counts: dict[str, Any] = {name: len(labels) for name, (_, labels) in sets.items()}
        return counts | {"n_copies": len(self._noise), "n_weights": self._theta0.numel()}


def augment(
    data: MulticlassSplits,
    seed: int,
    device: str,
    model: Classifier,
    start: Ranges,
    n_copies: PositiveInt,
    penalty: PositiveFloat,
    per_class: bool,
) -> Augment:
    """The ranges of an augmentation for a `model` that is trained on `data`.

    Raises `UserError` where the rows are no images, or `start` is out of bounds.
    """
    return Augment(data, model, start, seed, device, n_copies, penalty, per_class)


def _start(ranges: Ranges, height: int, width: int) -> Tensor:
    """The logarithms of the half-ranges, (5,). Raises `UserError` where one is out of bounds."""
    half = ranges.in_units_of_the_map(height, width, "problem.start")
    if (half < LEAST).any():
        name = NAMES[int(half.argmin())]
        least = LEAST / units(height, width)[int(half.argmin())]
        raise UserError(
            f"problem.start.{name}={getattr(ranges, name):g}: α is the logarithm of a half-range, "
            f"which must be at least {least:.3g}"
        )
    return half.log()


def _images(rows: LabelledRows, shape: tuple[int, int, int], device: str) -> tuple[Tensor, Tensor]:
    """The images (n, channels, height, width) and labels (n,) of rows."""
    x, labels = rows
    images = torch.as_tensor(x, dtype=torch.float64, device=device).reshape(-1, *shape)
    return images, torch.as_tensor(labels, device=device)

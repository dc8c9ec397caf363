"""How the weights w (p,) of a linear model are written as one tensor.

A minimiser of G moves w along gradients Xᵀz + e^α w. So where one α penalises all features, each of
its vectors lies in the span of the training rows and of the start w₀, and those of a hypergradient
in that of the outer rows too. With n rows and p ≫ n features, their coefficients are the shorter
vectors.
"""

from typing import Protocol

import torch
from torch import Tensor

from shine_exp.bilevel.problems.design_matrix import DesignMatrix
from shine_exp.bilevel.problems.linear.merged_columns import merged_columns
from shine_exp.data.dataset import Matrix
from shine_exp.types import PLAIN, InnerProduct


class Coordinates(Protocol):
    """What a linear model needs of w, written as v (..., d)."""

    inner_product: InnerProduct

    def start(self) -> Tensor:
        """w₀."""
        ...

    def weights(self, v: Tensor) -> Tensor:
        """w itself, (d,) → (p,)."""
        ...

    def train_margins(self, v: Tensor) -> Tensor:
        """x_iᵀw of the training rows, (..., d) → (..., n_train)."""
        ...

    def outer_margins(self, v: Tensor) -> Tensor:
        """x_iᵀw of the outer rows, (..., d) → (..., n_outer)."""
        ...

    def train_sum(self, z: Tensor, penalty: Tensor, v: Tensor) -> Tensor:
        """Σ_i z_i x_i over the training rows, plus penalty ∘ w; z is (..., n_train)."""
        ...

    def outer_sum(self, z: Tensor) -> Tensor:
        """Σ_i z_i x_i over the outer rows, (..., n_outer) → (..., d)."""
        ...


class PrimalCoordinates:
    """w as it is, d = p. Margins and sums take one pass over the data each."""

    inner_product = PLAIN

    def __init__(self, train: Matrix, outer: Matrix, start: Tensor) -> None:
        device = str(start.device)
        self._train, self._outer = DesignMatrix(train, device), DesignMatrix(outer, device)
        self._start = start

    def start(self) -> Tensor:
        return self._start.clone()

    def weights(self, v: Tensor) -> Tensor:
        return v

    def train_margins(self, v: Tensor) -> Tensor:
        return self._train.matvec(v)

    def outer_margins(self, v: Tensor) -> Tensor:
        return self._outer.matvec(v)

    def train_sum(self, z: Tensor, penalty: Tensor, v: Tensor) -> Tensor:
        return self._train.rmatvec(z).addcmul_(penalty, v)

    def outer_sum(self, z: Tensor) -> Tensor:
        return self._outer.rmatvec(z)


class DualCoordinates:
    """w = Rᵀc written as (c, R w), d = 2N: the N rows of R are the training and outer rows and w₀.

    Margins are read off R w, and a sum takes two passes over the data: w = Rᵀc, then R w. Between
    these passes w may lie in any basis, so the columns of R are merged and reordered.
    """

    def __init__(self, train: Matrix, outer: Matrix, start: Tensor) -> None:
        self._start = start
        self._given = train, outer
        rows = merged_columns(self._given, start.numpy(force=True))
        self._n_train, self._n = train.shape[0], rows.shape[0]
        device = str(start.device)
        self._rows = DesignMatrix(rows, device)
        self._outer = DesignMatrix(rows[self._n_train : -1], device)
        self.inner_product = InnerProduct(self._n)

    def start(self) -> Tensor:
        c = self._start.new_zeros(self._n)
        c[-1] = 1.0
        return torch.cat([c, self._rows.matvec(self._rows.rmatvec(c))])

    def weights(self, v: Tensor) -> Tensor:
        train, outer = self._given
        c = v[: self._n].numpy(force=True)
        w = train.T @ c[: self._n_train] + outer.T @ c[self._n_train : -1]
        return torch.from_numpy(w).to(v).addcmul_(v[self._n - 1], self._start)

    def train_margins(self, v: Tensor) -> Tensor:
        return v[..., self._n : self._n + self._n_train]

    def outer_margins(self, v: Tensor) -> Tensor:
        return v[..., self._n + self._n_train : -1]

    def train_sum(self, z: Tensor, penalty: Tensor, v: Tensor) -> Tensor:
        w = v.new_empty(*z.shape[:-1], 2 * self._n)
        c = torch.mul(penalty, v[..., : self._n], out=w[..., : self._n])
        c[..., : self._n_train] += z
        # R w comes from w = Rᵀc and not from R w of the summands. A c that Rᵀ maps to nearly 0, as
        # where rows depend on each other, then gives products of vectors that are nearly 0 too.
        w[..., self._n :] = self._rows.matvec(self._rows.rmatvec(c))
        return w

    def outer_sum(self, z: Tensor) -> Tensor:
        w = z.new_zeros(*z.shape[:-1], 2 * self._n)
        w[..., self._n_train : self._n - 1] = z
        w[..., self._n :] = self._rows.matvec(self._outer.rmatvec(z))
        return w

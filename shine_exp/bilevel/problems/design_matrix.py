"""A data matrix X (n, p), sparse or dense, multiplied from both sides."""

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shine_exp.data.dataset import Matrix, is_sparse

# The ratio of the largest to the smallest column that a minimiser still copes with.
BADLY_SCALED = 1e6


class DesignMatrix:
    """X w and Xᵀ z over the last axis of float64 tensors, differentiable in w and z.

    A sparse X, CSR or CSC, is kept twice, as the CSR matrices of X and of Xᵀ, so that both products
    read memory in order. Their indices have 32 bits, which makes the products 1.5 times as fast as
    64 bits do on one core. Where X has such indices too, one of the two is X itself and no copy.
    """

    def __init__(self, x: Matrix, device: str = "cpu") -> None:
        self.shape = x.shape
        if isinstance(x, np.ndarray):
            self._rows = torch.as_tensor(
                np.ascontiguousarray(x), dtype=torch.float64, device=device
            )
            self._columns = self._rows.T
        else:
            self._rows, self._columns = _csr(x.tocsr(), device), _csr(x.T.tocsr(), device)

    def matvec(self, w: Tensor) -> Tensor:
        """X w, (..., p) → (..., n)."""
        return _product(w, self._rows, self._columns)

    def rmatvec(self, z: Tensor) -> Tensor:
        """Xᵀ z, (..., n) → (..., p)."""
        return _product(z, self._columns, self._rows)


def _product(v: Tensor, matrix: Tensor, transpose: Tensor) -> Tensor:
    product: Tensor = _Product.apply(v, matrix, transpose)  # type: ignore[no-untyped-call]
    return product


class _Product(torch.autograd.Function):
    """A v over the last axis, whose derivative is a product with Aᵀ.

    PyTorch can differentiate A v itself, but would convert A to the CSR matrix of Aᵀ at each call.
    """

    @staticmethod
    def forward(ctx: Any, v: Tensor, matrix: Tensor, transpose: Tensor) -> Tensor:
        ctx.matrix, ctx.transpose = matrix, transpose
        if v.ndim == 1:
            return matrix @ v
        return (matrix @ v.reshape(-1, v.shape[-1]).T).T.reshape(*v.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _product(gradient, ctx.transpose, ctx.matrix), None, None


def _csr(x: Matrix, device: str) -> Tensor:
    with warnings.catch_warnings():
        # That CSR is in beta; and of PyTorch 2.11 that nobody chose to check invariants.
        warnings.filterwarnings("ignore", "Sparse (CSR|invariant)", UserWarning)
        return torch.sparse_csr_tensor(
            torch.from_numpy(x.indptr.astype(np.int32, copy=False)),
            torch.from_numpy(x.indices.astype(np.int32, copy=False)),
            torch.from_numpy(x.data.astype(np.float64, copy=False)),
            x.shape,
            device=device,
            check_invariants=True,
        )


def column_scales(x: Matrix) -> np.ndarray | None:
    """Powers of 2 (p,) that bring the largest entry of each column of X into [½, 1).

    None where these entries lie within a factor of `BADLY_SCALED` of each other: such an X needs
    no scales. The scale of an empty column is 1. Powers of 2, since these round nothing.
    """
    if is_sparse(x):
        largest = np.zeros(x.shape[1])
        # X.max(axis=0) would make the CSC matrix of X. Indices of 64 bits make this twice as fast.
        np.maximum.at(largest, x.indices.astype(np.intp), np.abs(x.data))
    else:
        largest = np.abs(x).max(axis=0)
    there = largest[largest > 0]
    if not len(there) or there.max() <= BADLY_SCALED * there.min():
        return None
    _, exponent = np.frexp(largest)
    return np.where(largest > 0, np.ldexp(1.0, -exponent), 1.0)


def scaled_columns(x: Matrix, scales: np.ndarray) -> Matrix:
    """X with its column j multiplied by `scales[j]`; a sparse X becomes CSR."""
    if not is_sparse(x):
        return x * scales
    rows = x.tocsr(copy=True)
    rows.data *= scales[rows.indices]
    return rows

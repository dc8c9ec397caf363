"""A data matrix X (n × p), sparse or dense, multiplied from both sides."""

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shine_exp.data.dataset import Matrix, is_sparse

BADLY_SCALED = 1e6  # ratio of the largest to the smallest column that a minimiser still copes with


class DesignMatrix:
    """X w and Xᵀ z, differentiable, over the last axis of float64 tensors.

    A sparse X is kept twice, as CSR of X and of Xᵀ, with 32-bit indices: both products then read
    memory in order (1.5 times faster than 64-bit indices on one core).
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
    """A v over the last axis, with its derivative Aᵀ v, which PyTorch would convert from CSR at
    each call.
    """

    @staticmethod
    def forward(ctx: Any, v: Tensor, matrix: Tensor, transpose: Tensor) -> Tensor:
        ctx.matrix, ctx.transpose = matrix, transpose
        return (
            matrix @ v
            if v.ndim == 1
            else (matrix @ v.reshape(-1, v.shape[-1]).T).T.reshape(*v.shape[:-1], -1)
        )

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _product(gradient, ctx.transpose, ctx.matrix), None, None


def _csr(x: Matrix, device: str) -> Tensor:
    with warnings.catch_warnings():
        # That CSR is in beta; and of PyTorch 2.11 that nobody chose to check invariants.
        warnings.filterwarnings("ignore", "Sparse (CSR|invariant)", UserWarning)
        return torch.sparse_csr_tensor(
            torch.from_numpy(x.indptr.astype(np.int32)),
            torch.from_numpy(x.indices.astype(np.int32)),
            torch.from_numpy(x.data.astype(np.float64)),
            x.shape,
            device=device,
            check_invariants=True,
        )


def column_scales(x: Matrix) -> np.ndarray | None:
    """Powers of 2 (p,) that bring the columns of X to a length near 1; None where their lengths
    are of one kind.

    That is, within a factor of `BADLY_SCALED` of each other. An empty column has the scale 1.
    """
    largest = abs(x).max(axis=0)
    if is_sparse(x):
        largest = largest.toarray().ravel()
    there = largest[largest > 0]
    if not len(there) or there.max() <= BADLY_SCALED * there.min():
        return None
    _, exponent = np.frexp(largest)
    return np.where(largest > 0, np.ldexp(1.0, -exponent), 1.0)


def scaled_columns(x: Matrix, scales: np.ndarray) -> Matrix:
    """X with column j times `scales[j]`; a sparse X in CSR."""
    if not is_sparse(x):
        return x * scales
    rows = x.tocsr(copy=True)
    rows.data *= scales[rows.indices]
    return rows

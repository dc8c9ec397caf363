"""A data matrix, sparse or dense: its products, their derivatives, and scales of its columns."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from shine_exp.bilevel.problems.design_matrix import DesignMatrix, column_scales, scaled_columns


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_design_matrix_products_and_derivatives(form) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 10)) * (rng.random((50, 10)) < 0.5)
    dense = torch.from_numpy(x)
    design = DesignMatrix(form(x))
    w = torch.randn(2, 3, 10, dtype=torch.float64, requires_grad=True)
    z = torch.randn(len(dense), dtype=torch.float64)
    torch.testing.assert_close(design.matvec(w), w @ dense.T)
    torch.testing.assert_close(design.rmatvec(z), z @ dense)
    assert torch.autograd.gradcheck(design.matvec, w)
    assert torch.autograd.gradgradcheck(lambda v: design.matvec(v) ** 2, w)


def test_design_matrix_takes_indices_of_64_bits() -> None:
    x = sp.random_array((20, 10), density=0.3, format="csr", rng=np.random.default_rng(0))
    wide = sp.csr_matrix(x)
    wide.indices, wide.indptr = x.indices.astype(np.int64), x.indptr.astype(np.int64)
    w, z = torch.arange(10, dtype=torch.float64), torch.arange(20, dtype=torch.float64)
    design = DesignMatrix(wide)
    torch.testing.assert_close(design.matvec(w), torch.from_numpy(x @ w.numpy()))
    torch.testing.assert_close(design.rmatvec(z), torch.from_numpy(x.T @ z.numpy()))


@pytest.mark.parametrize("sparse", [True, False])
def test_column_scales_are_powers_of_two_for_badly_scaled_columns_only(sparse: bool) -> None:
    x = np.array([[1.0, -3e-8, 0.0, 5e9], [0.5, 1e-8, 0.0, 0.0]])
    scales = column_scales(sp.csr_matrix(x) if sparse else x)
    assert scales is not None
    np.testing.assert_array_equal(np.frexp(scales)[0], 0.5)
    largest = np.abs(x * scales).max(axis=0)
    assert ((largest[[0, 1, 3]] >= 0.5) & (largest[[0, 1, 3]] < 1)).all()
    assert scales[2] == 1.0
    plain = x[:, [0, 2]]
    assert column_scales(sp.csr_matrix(plain) if sparse else plain) is None
    scaled = scaled_columns(sp.csr_matrix(x) if sparse else x, scales)
    np.testing.assert_array_equal(scaled.toarray() if sparse else scaled, x * scales)

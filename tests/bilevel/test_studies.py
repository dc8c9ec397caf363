"""What the two studies must show (Ramzi et al. 2022, theorems 2 and 3, figure 2)."""

import numpy as np
import pandas as pd
import pytest

from shine_exp.bilevel.problems.linear.logistic import LogisticLoss
from shine_exp.bilevel.problems.linear.model import LinearModel
from shine_exp.bilevel.studies.inversion_quality import InversionQuality
from shine_exp.bilevel.studies.theorem import Theorem
from shine_exp.data.sets.bundled import breast_cancer
from shine_exp.data.sets.synthetic import gaussian
from shine_exp.data.splits import split
from shine_exp.inverse.conjugate_gradient import ConjugateGradient
from shine_exp.solvers.lbfgs import LBFGS


def rows(study, problem, seed: int) -> pd.DataFrame:
    state = study.init(problem, seed)
    found = list(study.measure(problem, state))
    for _ in range(study.n_steps):
        state = study.step(problem, state)
        found += study.measure(problem, state)
    return pd.DataFrame(found)


def gaussian_problem(seed: int) -> LinearModel:
    return LinearModel(LogisticLoss(), split(gaussian(500, 30, seed=0, scaling="none"), seed))


def test_inversion_quality_is_best_along_opa_direction() -> None:
    problem = LinearModel(LogisticLoss(), split(breast_cancer("variance", 0.2), 0), 1)
    study = InversionQuality(LBFGS(60, "identity"), n_steps=20, tol=1e-6, opa=5)
    table = rows(study, problem, 0)
    assert set(table.columns) == {"step", *study.columns(problem)}
    medians = table.groupby(["estimate", "direction"])["cosine"].median()
    assert medians["opa", "prescribed"] > 0.999
    assert medians["opa", "prescribed"] > medians["opa", "random"]
    assert medians["opa", "prescribed"] > medians["shine", "prescribed"]
    assert medians["shine", "krylov"] > 0.999


@pytest.mark.slow
def test_theorem_errors_fall_with_tolerance() -> None:
    """Relative errors at ‖∇_θG‖ = 1e-6, medians over 20 seeds."""
    study = Theorem(LBFGS(None), opa=[5, 1], others={"cg": ConjugateGradient()}, n_steps=6)
    tables = []
    for seed in range(20):
        problem = LinearModel(
            LogisticLoss(), split(gaussian(500, 30, seed=0, scaling="none"), seed), 1
        )
        tables.append(rows(study, problem, seed))
    errors = pd.concat(tables).groupby(["estimate", "tol"])["relative_error"].median()
    assert errors["opa every 5", 1e-6] < 1e-2
    assert errors["opa every 5", 1e-6] < errors["opa every 5", 1e-1]
    assert errors["opa every 1", 1e-6] < 1e-4
    assert errors["shine", 1e-6] > 0.02
    assert errors["random directions", 1e-6] < errors["shine", 1e-6]
    assert errors["cg", 1e-6] < 1e-5


def test_theorem_errors_with_one_seed() -> None:
    problem = gaussian_problem(0)
    study = Theorem(LBFGS(None), opa=[1], others={"cg": ConjugateGradient()}, n_steps=4)
    table = rows(study, problem, 0)
    np.testing.assert_allclose(sorted(table["tol"].unique()), [1e-4, 1e-3, 1e-2, 1e-1])
    errors = table.set_index(["estimate", "tol"])["relative_error"]
    tightest = table["tol"].min()
    assert errors["opa every 1", tightest] < 1e-3
    assert errors["cg", tightest] < 1e-3


def test_studies_show_nan_where_not_solved() -> None:
    problem = gaussian_problem(0)
    inversion = rows(
        InversionQuality(LBFGS(60, max_steps=2), n_steps=2, tol=1e-6, opa=5), problem, 0
    )
    theorem = rows(
        Theorem(LBFGS(None, max_steps=2), opa=[1], others={"cg": ConjugateGradient()}, n_steps=2),
        problem,
        0,
    )
    for table in (inversion, theorem):
        missed = table["inner_residual"] > table["tol"]
        assert missed.any()
        assert table.loc[missed, ["cosine", "norm_ratio"]].isna().all(axis=None)
        assert table["unsolved_inner"].iloc[-1] > 0

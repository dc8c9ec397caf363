"""Dual coordinates of a linear model are another way to write the same problem."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from differences import finite_differences, solved
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shine_exp.bilevel.hypergradients import Implicit, Unrolled, hypergradient
from shine_exp.bilevel.loops.descent import Descent
from shine_exp.bilevel.loops.schedule import Schedule
from shine_exp.bilevel.loops.search import Grid, Search
from shine_exp.bilevel.problems.linear.logistic import LogisticLoss
from shine_exp.bilevel.problems.linear.merged_columns import merged_columns
from shine_exp.bilevel.problems.linear.model import LinearModel, Writing
from shine_exp.bilevel.problems.linear.nonlinear_least_squares import SquaredSigmoidLoss
from shine_exp.bilevel.studies.theorem import Theorem
from shine_exp.data.splits import Splits
from shine_exp.errors import UserError
from shine_exp.inverse.conjugate_gradient import ConjugateGradient
from shine_exp.inverse.fallback import Fallback
from shine_exp.inverse.full import Full
from shine_exp.inverse.jacobian_free import JacobianFree
from shine_exp.inverse.lbfgs import LBFGSInverse
from shine_exp.inverse.neumann import Neumann
from shine_exp.inverse.refine import Refine
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.lbfgs import LBFGS
from shine_exp.solvers.scipy import ScipyMinimizer
from shine_exp.types import InnerProduct, InverseMethod, Status

ALPHA = torch.tensor([-1.0], dtype=torch.float64)
METHODS = {
    "shine": Shine(),
    "refine": Refine(Shine(), ConjugateGradient(5)),
    "cg": ConjugateGradient(),
    "full": Full(),
    "lbfgs": LBFGSInverse(),
    "neumann": Neumann(5),
    "jf": JacobianFree(),
    "fallback": Fallback(),
}


def wide_splits(seed: int = 0, sparse: bool = True, dependent: bool = False) -> Splits:
    """Rows of 200 features, most of which few rows have, in the manner of text."""
    rng = np.random.default_rng(seed)
    frequency = 1 / (1 + np.arange(200))
    x = rng.random((60, 200)) * (rng.random((60, 200)) < 3 * frequency)
    if dependent:
        # A row twice, one with the other label, one that is a sum of two, and one of zeros.
        x[1], x[2], x[3], x[4] = x[0], x[0], x[5] + x[6], 0.0
    y = np.where(rng.random(60) < 0.5, 1.0, -1.0)
    y[1], y[2] = y[0], -y[0]
    parts = (
        (sp.csr_matrix(x[rows]) if sparse else x[rows], y[rows])
        for rows in (slice(40), slice(40, 50), slice(50, 60))
    )
    return Splits(*parts)


def model(coordinates: Writing, **options) -> LinearModel:
    loss = options.pop("loss", LogisticLoss())
    return LinearModel(loss, wide_splits(**options), coordinates=coordinates, seed=3)


@given(
    arrays(np.float64, (5, 9), elements=st.sampled_from([0.0, 0.0, 1.0, -2.0, 0.5])),
    arrays(np.float64, 9, elements=st.floats(-2, 2)),
)
def test_merged_columns_keep_all_inner_products(x: np.ndarray, start: np.ndarray) -> None:
    rows = np.vstack([x, start])
    merged = merged_columns([sp.csr_matrix(x[:3]), sp.csr_matrix(x[3:])], start)
    np.testing.assert_allclose((merged @ merged.T).toarray(), rows @ rows.T, atol=1e-12)
    # One column for each that two rows share, at most one a row, and one for the rest of the start.
    shared = np.count_nonzero(np.count_nonzero(x, axis=0) > 1)
    assert merged.shape[1] <= shared + len(x) + 1


def test_inner_product_of_coefficients_is_that_of_vectors() -> None:
    rows = torch.randn(4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    c = torch.randn(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    vectors, written = c @ rows, torch.cat([c, c @ rows @ rows.T], -1)
    dual, plain = InnerProduct(4), InnerProduct()
    torch.testing.assert_close(dual(*written), plain(*vectors))
    torch.testing.assert_close(dual.norm(written), plain.norm(vectors))
    torch.testing.assert_close(dual(written[0, 0], written[1, 0]), vectors[0, 0] @ vectors[1, 0])


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("dependent", [True, False])
@pytest.mark.parametrize("loss", [LogisticLoss(), SquaredSigmoidLoss()])
def test_dual_and_primal_solutions_agree(sparse: bool, dependent: bool, loss) -> None:
    found = []
    for way in ("primal", "dual"):
        problem = model(way, sparse=sparse, dependent=dependent, loss=loss)
        value, at = hypergradient(problem, ALPHA, inverse=ConjugateGradient(), tol=1e-11)
        assert at.status is Status.CONVERGED
        assert value.solved
        written = [problem.as_given(ALPHA, v)[1] for v in (at.theta, value.adjoint)]
        found.append([*written, value.value, torch.tensor(at.point.value)])
    for primal, dual in zip(*found, strict=True):
        torch.testing.assert_close(dual, primal, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("opa", [None, 3])
@pytest.mark.parametrize("name", METHODS)
def test_methods_agree_in_dual_and_primal_coordinates(name: str, opa: int | None) -> None:
    values = []
    for way in ("primal", "dual"):
        problem = model(way)
        # From step to step, the path of a minimiser amplifies rounding: H is compared early.
        solver = LBFGS(memory=None, max_steps=10, opa=opa)
        method = METHODS[name]
        value, at = hypergradient(problem, ALPHA, solver=solver, inverse=method, tol=1e-12)
        assert at.n_steps == 10
        values.append([value.value, problem.as_given(ALPHA, value.adjoint)[1]])
    for primal, dual in zip(*values, strict=True):
        torch.testing.assert_close(dual, primal, rtol=1e-8, atol=1e-8)


def test_dual_hypergradient_equals_finite_differences() -> None:
    problem = model("dual")
    at = solved(problem, ALPHA)
    value = Implicit(ConjugateGradient())(problem, at, 1e-12).value
    torch.testing.assert_close(value, finite_differences(problem, at, 1e-4), rtol=1e-5, atol=0)


def descent(method: InverseMethod = METHODS["shine"], **options) -> Descent:
    solver = options.pop("solver", LBFGS())
    schedule = Schedule("exponential", 1e-3, 0.78)
    return Descent(solver, Implicit(method), schedule, n_steps=6, **options)


@pytest.mark.parametrize("opa", [None, 3])
def test_descent_takes_same_path_in_dual_and_primal_coordinates(opa: int | None) -> None:
    paths = []
    for way in ("primal", "dual"):
        problem, loop = model(way), descent(solver=LBFGS(opa=opa))
        state = loop.init(problem, 0)
        for _ in range(loop.n_steps):
            state = loop.step(problem, state)
        paths.append((state.alpha, *loop.solution(problem, state).values()))
        assert loop.measure(problem, state)[0]["evals"] == state.evals
    for primal, dual in zip(*paths, strict=True):
        torch.testing.assert_close(dual, primal, rtol=1e-6, atol=1e-8)


def test_descent_resumes_to_the_bit_in_dual_coordinates() -> None:
    problem, loop = model("dual"), descent(compare=True)
    state = loop.step(problem, loop.step(problem, loop.init(problem, 0)))
    again = loop.load_state_dict(problem, state.state_dict())
    for _ in range(3):
        state, again = loop.step(problem, state), loop.step(problem, again)
        assert loop.measure(problem, state) == loop.measure(problem, again)
        assert torch.equal(state.theta, again.theta)


@pytest.mark.parametrize(
    ("loop", "writing"),
    [
        (descent(), "dual"),
        (descent(solver=ScipyMinimizer("L-BFGS-B")), "primal"),
        (descent(lambda system: None), "primal"),
        (replace(descent(), hypergradient=Unrolled(5)), "primal"),
        (Search(Grid(), LBFGS(), 3, 1e-5), "dual"),
        (Search(Grid(), ScipyMinimizer("CG"), 3, 1e-5), "primal"),
        (Theorem(LBFGS(), [5], {}, 3), "primal"),
    ],
)
def test_loop_gets_coordinates_that_all_its_parts_know(loop, writing: str) -> None:
    problem = model("auto")
    assert loop.suited(problem).facts["coordinates"] == writing
    if writing == "primal":
        with pytest.raises(UserError, match=r"coordinates=dual: .* take problem\.coordinates=auto"):
            loop.suited(model("dual"))


def test_scipy_refuses_dual_coordinates() -> None:
    problem = model("dual")
    objective, (_, theta) = problem.inner(ALPHA), problem.start()
    with pytest.raises(UserError, match="plain inner product"):
        ScipyMinimizer("L-BFGS-B")(objective, theta, 1e-3)


def test_auto_takes_dual_coordinates_for_wide_data_with_one_alpha() -> None:
    assert model("auto").writing == "dual"
    splits = wide_splits()
    narrow = Splits(*((x[:, :100], y) for x, y in (splits.train, splits.outer, splits.test)))
    assert LinearModel(LogisticLoss(), narrow).writing == "primal"
    grouped = LinearModel(LogisticLoss(), splits, groups=2)
    assert grouped.writing == "primal"
    with pytest.raises(UserError, match=r"coordinates=dual: the penalty differs"):
        LinearModel(LogisticLoss(), splits, groups=2, coordinates="dual")


def test_dual_coordinates_evaluate_as_primal_ones() -> None:
    rows = []
    for way in ("primal", "dual"):
        problem = model(way)
        rows.append(problem.evaluate(ALPHA, problem.start()[1]))
    assert rows[0] == pytest.approx(rows[1], rel=1e-12)


def test_dual_train_sum_takes_batches() -> None:
    coordinates = model("dual").coordinates
    drawn = torch.Generator().manual_seed(0)
    z = torch.randn(3, 40, dtype=torch.float64, generator=drawn)
    v = torch.randn(3, len(coordinates.start()), dtype=torch.float64, generator=drawn)
    one = torch.ones(1, dtype=torch.float64)
    sums = coordinates.train_sum(z, one, v)
    alone = [coordinates.train_sum(row, one, u) for row, u in zip(z, v, strict=True)]
    torch.testing.assert_close(sums, torch.stack(alone))


@pytest.mark.parametrize("way", ["primal", "dual"])
def test_train_norm_is_largest_singular_value(way: Writing) -> None:
    x, _ = wide_splits().train
    exact = np.linalg.norm(x.toarray(), 2) ** 2
    assert 0.98 * exact < model(way).train_norm.value <= exact * (1 + 1e-12)

"""Figure E2's study: exact where it says so, and OPA better where it should be."""

import signal

import numpy as np
import pandas as pd
import pytest
import torch

from shine_exp.deq.linearisation import Linearisation
from shine_exp.training.images.network_inversion import NetworkInversion, exact

SMALL = (
    "experiment=figE2",
    "outer.epochs=1",
    "problem.batch_size=64",
    "outer.pretrain_steps=22",
    "outer.n_batches=1",
    "outer.batch_size=8",
)


@pytest.fixture
def rows(shine_run, folders, trace) -> pd.DataFrame:
    assert shine_run(*SMALL).code == 0
    (folder,) = folders()
    return trace(folder).astype({"cosine": float, "norm_ratio": float})


def test_a_row_for_each_sample_estimate_and_direction(rows: pd.DataFrame) -> None:
    assert set(rows.estimate) == {"jf", "shine", "adjoint_broyden", "opa"}
    assert rows.groupby(["estimate", "direction"])["sample"].nunique().tolist() == [8] * 8
    assert np.isfinite(rows.cosine).all()


def test_samples_that_the_study_did_not_solve_are_counted(shine_run, folders, trace) -> None:
    """By three solvers, and where J⁻ᵀd was not found; the unrolled training solves nothing."""
    assert shine_run(*SMALL, "outer.exact_steps=2", "outer.tol=1e-9").code == 0
    (folder,) = folders()
    table = trace(folder)
    exact = table[table.estimate != "jf"]  # which shares the solve of "shine"
    assert set(table.unsolved_inner) == {str(3 * 8)}
    assert set(table.unsolved_backward) == {str((exact.cosine == "nan").sum())}
    assert (exact.cosine == "nan").any()


def test_opa_is_the_best_in_the_prescribed_direction(rows: pd.DataFrame) -> None:
    prescribed = rows[rows.direction == "prescribed"].groupby("estimate").cosine.median()
    assert prescribed.idxmax() == "opa"
    assert prescribed["opa"] > 0.9


def test_the_exact_inverse_is_exact_or_nan() -> None:
    random = torch.Generator().manual_seed(0)
    matrices = 0.3 * torch.randn(3, 6, 6, dtype=torch.float64, generator=random)
    matrices[2] = torch.eye(6, dtype=torch.float64)  # J = I − I has no inverse
    at = Linearisation(
        lambda z: torch.einsum("bij,bj->bi", matrices, z), torch.zeros(3, 6, dtype=torch.float64)
    )
    d = torch.randn(3, 6, dtype=torch.float64, generator=random)
    u = exact(at, d, 50)
    jacobian = torch.eye(6, dtype=torch.float64) - matrices[:2]
    torch.testing.assert_close(u[:2], torch.linalg.solve(jacobian.mT, d[:2]), rtol=1e-4, atol=1e-5)
    assert u[2].isnan().all()


def test_a_network_that_diverges_ends_the_study(shine_run, folders, status) -> None:
    assert shine_run(*SMALL, "outer.optimiser.learning_rate=1e30").code == 0
    (folder,) = folders()
    assert status(folder) == "diverged"


def test_a_method_that_trains_no_network_is_refused(shine_run, folders) -> None:
    outcome = shine_run(*SMALL, "method=grid", "outer=network_inversion")
    assert (outcome.code, outcome.err.count("\n"), folders()) == (2, 1, [])
    assert "needs a method with an inverse" in outcome.err


@pytest.mark.slow
def test_an_interrupted_study_resumes_to_the_same_rows(
    shine_run, folders, trace, monkeypatch
) -> None:
    with monkeypatch.context() as patch:
        original = NetworkInversion.measure

        def pressed(self, task, state):
            if state.step == 11:
                signal.raise_signal(signal.SIGINT)  # waits for the end of the step
            return original(self, task, state)

        patch.setattr(NetworkInversion, "measure", pressed)
        assert shine_run(*SMALL).code == 130
    assert "resumed after step 11" in shine_run(*SMALL).out
    (folder,) = folders()
    resumed = trace(folder)
    shine_run(*SMALL, "runtime.results=whole")
    (other,) = {path.parent for path in folder.parents[3].glob("whole/*/*/*/trace.csv")}
    pd.testing.assert_frame_equal(resumed.drop(columns="time"), trace(other).drop(columns="time"))

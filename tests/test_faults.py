"""What the scripts on faults of the published code find, on problems small enough for a test."""

import pytest


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_network_faults_cost_what_the_script_says(script, seed: int) -> None:
    faults = script("published/networks")
    refined = faults.refined(seed)
    assert refined["from Hᵀ"] < refined["Jacobian-Free, from I"] < refined["from H, the fault"]
    assert refined["from H, the fault"] < refined["SHINE, not refined"]
    opa = faults.opa(seed)
    assert opa["along Hᵀr"] < opa["along H r, the fault"] < opa["no OPA"]
    assert faults.stopping(seed)["each sample"] <= 1
    count = faults.count(seed)
    assert 0.1 < count["all pairs"] < 1
    assert count["one less, the fault"] != count["all pairs"]
    memory = faults.memory(seed)
    # No difference is found, of 300 steps at most.
    assert abs(memory["steps, restarted"] - memory["steps, the fault"]) <= 3
    assert abs(memory["SHINE, restarted"] - memory["SHINE, the fault"]) < 0.1


def test_network_fault_of_joint_stopping_leaves_samples_unsolved(script) -> None:
    found = [
        script("published/networks").stopping(seed)["the batch, the fault"] for seed in range(9)
    ]
    assert sorted(found)[4] > 1


# Seed 1 can be separated: there every published loop runs away.
@pytest.mark.parametrize("seed", [0, 2])
def test_regression_faults_cost_what_the_script_says(script, seed: int) -> None:
    faults = script("published/regression")
    rows = faults.split(faults.breast_cancer("standard", 1.0), seed)
    problem = faults.LinearModel(faults.LogisticLoss(), rows)
    solves = faults.one_solve(problem, seed)
    _, few_trials = solves["H₀ = γI, c₂ = 0.9"]
    _, many_trials = solves["H₀ = γI, c₂ = 9e-4"]
    assert few_trials < many_trials
    loops = faults.outer_loops(problem, seed)
    end, n_evals = loops.pop("shine-run's")
    assert end < 0.1
    assert all(n_evals < others for _, others in loops.values())


def test_network_fault_of_evaluating_elsewhere_changes_loss(script) -> None:
    faults = script("published/networks")
    found = faults.evaluation(0, "outer.epochs=1", "outer.pretrain_steps=20")
    solved, unsolved = (
        abs(found[f"loss at z*{steps}"] - found[f"loss at f(z*){steps}"])
        for steps in ("", ", 2 steps")
    )
    assert solved < 0.01
    assert unsolved > 3 * solved
    assert 0 <= found["accuracy at z*"] <= 100

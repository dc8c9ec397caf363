"""The script that measures faults of the published code finds each correction better than the fault."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "published_faults.py"


@pytest.fixture(scope="module")
def faults():
    spec = importlib.util.spec_from_file_location("published_faults", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_each_correction_is_better_than_its_fault(faults, seed: int) -> None:
    refined = faults.refined(seed)
    assert refined["from Hᵀ"] < refined["Jacobian-Free, from I"] < refined["from H, the fault"]
    assert refined["from H, the fault"] < refined["SHINE, not refined"]
    opa = faults.opa(seed)
    assert opa["along Hᵀr"] < opa["along H r, the fault"] < opa["no OPA"]
    assert faults.stopping(seed)["each sample"] <= 1
    reached = faults.tolerance(seed)
    assert reached["reached"] > 10 * reached["asked for, the fault"]

"""On the real 20newsgroups every method reaches the outer optimum that scikit-learn and SciPy
find.
"""

import importlib.util
import json
from functools import cache
from pathlib import Path

import pytest
from sklearn.datasets import fetch_20newsgroups_vectorized

from shine_exp.data.sets.newsgroups import newsgroups
from shine_exp.data.splits import split

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "bench" / "exact_optimum.py"
WITHIN = {"cg": 1e-3, "full": 1e-3, "shine": 3e-3, "opa": 3e-3, "refine": 3e-3}


@pytest.fixture(scope="module", autouse=True)
def _data() -> None:
    try:
        fetch_20newsgroups_vectorized(subset="all", download_if_missing=False)
    except OSError:
        pytest.skip(
            "20newsgroups is not in scikit-learn's cache; shine-run data=20news downloads it"
        )


@cache
def optimum(seed: int) -> float:
    """The outer loss (sum) at the exact optimum."""
    spec = importlib.util.spec_from_file_location("exact_optimum", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return float(script.optimum(split(newsgroups("none"), seed))[1])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("method", WITHIN)
def test_the_outer_optimum_is_reached(shine_run, folders, trace, seed: int, method: str) -> None:
    assert shine_run("data=20news", f"method={method}", f"seed={seed}").code == 0
    (folder,) = folders()
    n_outer = json.loads((folder / "run.json").read_text())["n_outer"]
    reached = float(trace(folder).outer_loss.iloc[-1]) * n_outer
    assert reached == pytest.approx(optimum(seed), rel=WITHIN[method])

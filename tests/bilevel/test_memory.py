"""The memory of a run grows as nnz + m p, for m secant pairs: neither as p² nor as n p."""

import re
import subprocess
import sys

import pytest

RUN = """
import sys
from pathlib import Path
from shine_exp.data.splits import split
from shine_exp.data.sets.synthetic import synthetic_text
from shine_exp.inverse.{module} import {method}
from shine_exp.bilevel.loops.descent import Descent
from shine_exp.bilevel.hypergradients.implicit import Implicit
from shine_exp.bilevel.loops.schedule import Schedule
from shine_exp.bilevel.problems.linear.model import LinearModel
from shine_exp.bilevel.problems.linear.logistic import LogisticLoss
from shine_exp.solvers.lbfgs import LBFGS

rows = split(synthetic_text(2000, int(sys.argv[1]), 50, 0, "none"), 0)
problem = LinearModel(LogisticLoss(), rows)
descent = Descent(LBFGS({memory}), Implicit({method}()), Schedule("exponential", 1e-6, 0.5))
state = descent.init(problem, 0)
for _ in range(2):
    state = descent.step(problem, state)
assert state.inner_steps > {memory}
print(Path("/proc/self/status").read_text())
"""
MEMORY = 30


def peak(p: int, module: str, method: str) -> int:
    """The most bytes resident in a process that makes two steps of a descent on p features."""
    program = RUN.format(module=module, method=method, memory=MEMORY)
    command = [sys.executable, "-c", program, str(p)]
    status = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    # Not ru_maxrss, which begins at the parent's.
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return 1024 * int(kilobytes)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("module", "method"), [("shine", "Shine"), ("conjugate_gradient", "ConjugateGradient")]
)
def test_descent_memory_grows_with_secant_pairs_only(module: str, method: str) -> None:
    small, large = 20_000, 40_000
    growth = peak(large, module, method) - peak(small, module, method)
    vectors = 2 * MEMORY + 40
    assert growth < 2 * 8 * vectors * (large - small) + 50e6

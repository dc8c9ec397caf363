"""shine_exp: reproduces SHINE (Ramzi et al., ICLR 2022) and the methods it is compared with.

A run, of a problem or a network:       run("problem=logreg", "method=shine"), load_runs("results")
Hypergradients of a problem of one's own:   hypergradient(AutodiffProblem(G, F, α₀, θ₀))
An equilibrium layer for any network:   DEQ(cell); compare_gradients(layer, inputs, loss)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from shine_exp.version import __version__

if TYPE_CHECKING:
    from shine_exp.bilevel.hypergradients import hypergradient
    from shine_exp.bilevel.problem import BilevelProblem
    from shine_exp.bilevel.problems.autodiff import AutodiffProblem
    from shine_exp.deq import DEQ, compare_gradients
    from shine_exp.runs.api import run
    from shine_exp.runs.run import Run, load_runs
    from shine_exp.training.task import Task

__all__ = [
    "DEQ",
    "AutodiffProblem",
    "BilevelProblem",
    "Run",
    "Task",
    "__version__",
    "compare_gradients",
    "hypergradient",
    "load_runs",
    "run",
]

# Imported when first asked for: `import shine_exp` alone loads no PyTorch.
_MODULES = {
    "AutodiffProblem": "shine_exp.bilevel.problems.autodiff",
    "BilevelProblem": "shine_exp.bilevel.problem",
    "DEQ": "shine_exp.deq",
    "Run": "shine_exp.runs.run",
    "Task": "shine_exp.training.task",
    "compare_gradients": "shine_exp.deq",
    "hypergradient": "shine_exp.bilevel.hypergradients",
    "load_runs": "shine_exp.runs.run",
    "run": "shine_exp.runs.api",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Which problem, data, solver, outer loop and method go together: refused before any work, with
the alternatives.
"""

from typing import Any

from hydra.utils import get_object, instantiate
from omegaconf import DictConfig

from shine_exp.errors import UnsupportedSolver, UnsupportedSystem, UserError

SOLVERS = {
    "minimum": "lbfgs, bfgs, scipy or scipy_cg",
    "root": "broyden, adjoint_broyden, fixed_point or anderson",
}
LEAVING = {"minimum": "lbfgs, bfgs or scipy", "root": "broyden or adjoint_broyden"}
DATA = {
    "minimum": "rows with two classes: breast_cancer, digits, 20news, real_sim, libsvm, gaussian or synthetic_text",
    "root": "images: digits_images, cifar10 or image_folder",
}
AWARE = {"minimum": "lbfgs or bfgs", "root": "adjoint_broyden"}
NEEDED = {  # of what is not ours, which annotations cannot check
    "problem": ("solution", "data_type", "sets"),
    "outer": ("problem_type", "needs_gradient", "begin", "advance", "measure"),
    "solver": ("finds", "leaves_estimate", "takes_awareness", "__call__"),
}


def check(config: DictConfig, choices: dict[str, str]) -> None:
    """Raises `UserError` for a combination that makes no sense."""
    names = " ".join(
        f"{group}={choices[group]}" for group in ("problem", "outer", "solver", "method")
    )
    problem, loop = get_object(config.problem._target_), get_object(config.outer._target_)
    solver, inverse = instantiate(config.solver), instantiate(config.method.inverse)
    for group, made in (("problem", problem), ("outer", loop), ("solver", solver)):
        _require(group, made, config[group]._target_)
    returned = getattr(get_object(config.data._target_), "__annotations__", {}).get("return")
    if isinstance(returned, type):
        check_data(problem, returned, choices)
    _check_loop(names, problem, loop, choices["outer"])
    if inverse is not None and not callable(inverse):
        raise UserError(
            f"method.inverse={config.method.inverse}: cannot be called; see shine_exp.types.InverseMethod"
        )
    _check_solver(config, names, problem, loop, solver, inverse)


def check_data(problem: Any, kind: type, choices: dict[str, str]) -> None:
    """Raises `UserError` where the problem needs data of another kind."""
    if not issubclass(kind, problem.data_type):
        needed = DATA[problem.solution]
        raise UserError(
            f"problem={choices['problem']} cannot use data={choices['data']}: it needs {needed}"
        )


def _require(group: str, made: Any, target: str) -> None:
    lacking = [name for name in NEEDED[group] if not hasattr(made, name)]
    if lacking:
        raise UserError(
            f"{group}._target_={target}: has no {', '.join(lacking)}; derive it from one in shine_exp"
        )


def _check_loop(names: str, problem: Any, loop: Any, outer: str) -> None:
    needed = loop.problem_type
    if not (isinstance(problem, type) and issubclass(problem, needed)):
        other = "hoag" if problem.solution == "minimum" else "train"
        if outer == other:
            base = f"{needed.__module__}.{needed.__qualname__}"
            raise UserError(
                f"{names}: outer={outer} needs a problem that derives from {base}; this one does not"
            )
        raise UserError(
            f"{names}: this outer loop is not made for this problem; take outer={other}"
        )


def _check_solver(
    config: DictConfig, names: str, problem: Any, loop: Any, solver: Any, inverse: Any
) -> None:
    if solver.finds != problem.solution:
        raise UnsupportedSolver(
            f"{names}: this problem needs another solver: {SOLVERS[problem.solution]}"
        )
    oracle = config.outer.get("oracle") or config.outer.get("train") or config.outer
    if loop.needs_gradient and oracle.get("inverse") is None and oracle.get("n_unrolled") is None:
        raise UserError(
            f"{names}: this method gives no gradient of the kind that this outer loop uses; leave outer to the method"
        )
    if getattr(inverse, "uses_estimate", False) and not solver.leaves_estimate:
        raise UnsupportedSolver(
            f"{names}: this method uses the solver's inverse estimate and this solver leaves none: take solver="
            f"{LEAVING[problem.solution]}, or a method that needs no estimate, such as full or jf"
        )
    if getattr(inverse, "needs_symmetry", False) and problem.solution != "minimum":
        raise UnsupportedSystem(
            f"{names}: this method needs a symmetric system; take full, refine, neumann, shine or jf"
        )
    if config.method.opa is not None and not solver.takes_awareness:
        raise UnsupportedSolver(
            f"{names}: OPA needs a solver that takes extra updates: solver={AWARE[problem.solution]}"
        )

"""Which problem, solver, outer loop and method go together: refused before any work, with the alternatives."""

from typing import Any

from hydra.utils import get_class, instantiate
from omegaconf import DictConfig

from shine_exp.errors import UnsupportedSolver, UnsupportedSystem, UserError

SOLVERS = {"minimum": "lbfgs, bfgs, scipy or scipy_cg", "root": "broyden, adjoint_broyden, fixed_point or anderson"}
LEAVING = {"minimum": "lbfgs, bfgs or scipy", "root": "broyden or adjoint_broyden"}
DATA = {
    "minimum": "rows with two classes: breast_cancer, digits, 20news, real_sim, libsvm, gaussian or synthetic_text",
    "root": "images: digits_images, cifar10 or image_folder",
}
AWARE = {"minimum": "lbfgs or bfgs", "root": "adjoint_broyden"}


def check(config: DictConfig, choices: dict[str, str]) -> None:
    """Raises `UserError` for a combination that makes no sense."""
    problem: Any = get_class(config.problem._target_)
    loop: Any = get_class(config.outer._target_)
    names = " ".join(f"{group}={choices[group]}" for group in ("problem", "outer", "solver", "method"))
    if not issubclass(problem, loop.problem_type):
        other = "hoag" if problem.solution == "minimum" else "train"
        raise UserError(f"{names}: this outer loop is not made for this problem; take outer={other}")
    solver, inverse = instantiate(config.solver), instantiate(config.method.inverse)
    if solver.finds != problem.solution:
        raise UnsupportedSolver(f"{names}: this problem needs another solver: {SOLVERS[problem.solution]}")
    oracle = config.outer.get("oracle") or config.outer.get("train") or config.outer
    if loop.needs_gradient and oracle.get("inverse") is None and oracle.get("n_unrolled") is None:
        raise UserError(
            f"{names}: this method gives no gradient of the kind that this outer loop uses; leave outer to the method"
        )
    if getattr(inverse, "uses_forward_inverse", False) and not solver.leaves_inverse:
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

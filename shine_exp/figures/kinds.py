"""The kinds of run that figures tell apart, and the columns that each kind's trace must have."""

from dataclasses import dataclass

from shine_exp.runs.run import Run

INVERSION = "inversion_quality"
THEOREM = "theorem"
TRAIN = "train"
NETWORK_INVERSION = "network_inversion"
ADVISE = "advise"
COMPARE = "outer.compare"  # the key that has exact hypergradients found along a search


@dataclass(frozen=True)
class Kind:
    """Columns that come from the outer loop, so that each trace of this kind has them."""

    columns: tuple[str, ...]
    never_fall: tuple[str, ...] = ()


SEARCH = Kind(
    ("step", "time", "evals", "products"), never_fall=("step", "time", "evals", "products")
)
KINDS = {
    INVERSION: Kind(("step", "time", "estimate", "direction", "cosine", "norm_ratio")),
    THEOREM: Kind(("step", "time", "tol", "estimate", "relative_error", "cosine")),
    NETWORK_INVERSION: Kind(("step", "time", "estimate", "direction", "cosine", "norm_ratio")),
    ADVISE: Kind(("step", "time", "method", "cosine", "relative_error", "products")),
    TRAIN: Kind(
        ("step", "time", "products", "forward_ms", "backward_ms"), never_fall=("step", "time")
    ),
}
TEXT = ("estimate", "direction", "method")

# What a problem or a task measures is its own choice, and older traces lack some of the rest. A
# figure uses these where they are, and ignores columns that it does not know.
OPTIONAL = (
    "outer_loss",
    "test_loss",
    "train_loss",
    "accuracy",
    "whole_grids",
    "whole_grids_longer",
    "gradient_cosine",
    "tol",
    "inner_residual",
    "unsolved_inner",
    "unsolved_backward",
    "spectral_radius",
    "forward_residual",
    "backward_residual",
    "converged",
    "fell_back",
)


def kind_of(run: Run) -> Kind:
    """By the outer loop that was chosen: any that has no kind of its own moves hyperparameters."""
    return KINDS.get(run.info["choices"]["outer"], SEARCH)


def is_search(run: Run) -> bool:
    """Whether a run moved hyperparameters: neither a study nor the training of a network."""
    return kind_of(run) is SEARCH


def is_compared(run: Run) -> bool:
    """Whether a search has exact hypergradients beside its own."""
    return is_search(run) and run.info["differs"].get(COMPARE) is True


def is_training(run: Run) -> bool:
    return bool(run.info["choices"]["outer"] == TRAIN)


def is_study(run: Run, outer: str) -> bool:
    return bool(run.info["choices"]["outer"] == outer)

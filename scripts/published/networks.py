"""What faults of the published network code cost, each beside its correction.

    python scripts/published/networks.py

Faults 1 to 6 on g(z) = z − tanh(W z + b) in float64, ‖W‖₂ = 0.9, 60 unknowns, 20 seeds; J is
known, so residuals and cosines are exact. Fault 7 on MDEQ micro, trained on digits by
`shine-run`'s defaults, 3 seeds, a minute each. Medians over the seeds [lowest, highest].

1. Refining starts from the forward estimate H as it is, where the adjoint system needs Hᵀ:
   ‖Jᵀu − r‖ / ‖r‖ after five Broyden steps from SHINE's answer, and from Jacobian-Free's without
   an estimate.
2. OPA updates along H r, where u = J⁻ᵀr needs Hᵀr: 1 − cosine of SHINE's u with J⁻ᵀr, and without
   OPA.
3. The solver stops by the norm of the whole batch: the largest residual, in units of the
   tolerance, of a batch of problems of unequal difficulty (‖W‖₂ from 0.1 to 0.9).
4. The backward tolerance is 2e-10 √d, in float32: the smallest ‖Jᵀu − r‖ / √d that 200 steps reach.
5. A full memory of 10 pairs is overwritten from its start, so that H is a sum of updates that were
   made to other matrices, where ours restarts from I: steps to ‖g‖ ≤ 1e-8 (at most 300), and
   ‖Jᵀu − r‖ / ‖r‖ of SHINE's u.
6. The number of pairs in the estimate is reconstructed after the solve: the same residual with a
   count one too small.
7. The head sees f(z*) in training and z* in evaluation: held-out loss and accuracy (%) of a
   network trained on f(z*), with the solver steps that it was trained with, and with 2, after
   which z* is no fixed point yet.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from shine_exp.deq.flattening import Flattening
from shine_exp.inverse.broyden import BroydenSteps
from shine_exp.inverse.jacobian_free import JacobianFree
from shine_exp.inverse.refine import Refine
from shine_exp.inverse.shine import Shine
from shine_exp.runs.composition import CONFIG_DIR
from shine_exp.solvers.adjoint_broyden_estimate import AdjointBroydenEstimate
from shine_exp.solvers.broyden import Broyden
from shine_exp.solvers.estimates import Identity, Transposed
from shine_exp.solvers.iterates import Iterates
from shine_exp.training.images.image_classification import ImageClassification
from shine_exp.training.images.mdeq import MDEQ
from shine_exp.types import AdjointSystem, InverseEstimate, LinearOperator

D, SEEDS, TRAINED_SEEDS, GAIN, STEPS, EVERY, MEMORY = 60, 20, 3, 0.9, 30, 5, 10


class Cell:
    """g, its J at a point, and a right-hand side r; one problem for each gain."""

    def __init__(self, seed: int, *gains: float) -> None:
        random = torch.Generator().manual_seed(seed)
        draw = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64)  # noqa: E731
        w = draw(len(gains), D, D)
        self.w = (
            w * (torch.tensor(gains, dtype=w.dtype) / torch.linalg.matrix_norm(w, 2))[:, None, None]
        )
        self.b, self.r, self.start = (
            draw(len(gains), D),
            draw(len(gains), D),
            w.new_zeros(len(gains), D),
        )

    def __call__(self, z: Tensor) -> Tensor:
        return z - torch.tanh(torch.einsum("bij,bj->bi", self.w, z) + self.b)

    def jacobian(self, z: Tensor) -> Tensor:
        slope = 1 - torch.tanh(torch.einsum("bij,bj->bi", self.w, z) + self.b) ** 2
        return torch.eye(D, dtype=z.dtype) - slope[..., None] * self.w

    def system(self, z: Tensor, estimate: InverseEstimate | None) -> AdjointSystem:
        transposed = self.jacobian(z).mT
        operator = LinearOperator(lambda v: torch.einsum("bij,bj->bi", transposed, v))
        return AdjointSystem(operator, self.r, 0.0, estimate)


def residual(system: AdjointSystem, u: Tensor) -> float:
    return float(((system.operator(u) - system.r).norm(dim=-1) / system.r.norm(dim=-1)).max())


def refined(seed: int) -> dict[str, float]:
    cell = Cell(seed, GAIN)
    forward = Broyden(STEPS)(cell, cell.start, 1e-8)
    assert forward.estimate is not None
    steps = BroydenSteps(5)
    system = cell.system(forward.z, forward.estimate)
    first = Shine()(system).u
    wrong = replace(
        system, estimate=Transposed(forward.estimate), start=first
    )  # BroydenSteps transposes once more
    return {
        "SHINE, not refined": residual(system, first),
        "from Hᵀ": residual(system, Refine(Shine(), steps)(system).u),
        "from H, the fault": residual(system, steps(wrong).u),
        "Jacobian-Free, from I": residual(system, Refine(JacobianFree(), steps)(system).u),
    }


def opa(seed: int) -> dict[str, float]:
    cell = Cell(seed, GAIN)
    exact = torch.linalg.solve(cell.jacobian(_solved(cell, None)[0]).mT, cell.r[..., None])[..., 0]
    directions: dict[str, Callable[[AdjointBroydenEstimate], Tensor] | None] = {
        "no OPA": None,
        "along Hᵀr": lambda h: h.rmatvec(cell.r),
        "along H r, the fault": lambda h: h.matvec(cell.r),
    }
    cosine = torch.nn.functional.cosine_similarity
    return {
        k: 1 - float(cosine(_solved(cell, d)[1].rmatvec(cell.r), exact))
        for k, d in directions.items()
    }


def _solved(
    cell: Cell, direction: Callable[[AdjointBroydenEstimate], Tensor] | None
) -> tuple[Tensor, AdjointBroydenEstimate]:
    """Adjoint Broyden with an update along `direction` at every `EVERY`-th step."""
    iterates = Iterates(cell, cell.start, 1e-8, STEPS, record=True)
    estimate = AdjointBroydenEstimate(Identity(), iterates, 2 * STEPS)
    while iterates.running:
        iterates.step(-estimate.matvec(iterates.g))
        estimate.update(iterates.g, iterates)
        if direction is not None and iterates.n_steps % EVERY == 0:
            estimate.update(direction(estimate), iterates)
        estimate.mark_best(iterates)
    return iterates.z, estimate.at_best()


def stopping(seed: int) -> dict[str, float]:
    tol, gains = 1e-6, np.linspace(0.1, GAIN, 8)
    cell = Cell(seed, *gains)
    alone = Broyden(200)(cell, cell.start, tol)
    for n in range(200):
        together = Broyden(n)(cell, cell.start, 0.0)
        if together.residual.norm() <= tol * len(gains) ** 0.5:
            break
    return {
        "each sample": float(alone.residual.max()) / tol,
        "the batch, the fault": float(together.residual.max()) / tol,
    }


def tolerance(seed: int) -> dict[str, float]:
    cell = Cell(seed, GAIN)
    jt = cell.jacobian(Broyden(STEPS)(cell, cell.start, 1e-8).z).mT.float()
    operator = LinearOperator(lambda v: torch.einsum("bij,bj->bi", jt, v))
    system = AdjointSystem(operator, cell.r.float(), 0.0)
    u = BroydenSteps(200)(system).u
    return {
        "reached": residual(system, u) * float(cell.r.norm()) / D**0.5,
        "asked for, the fault": 2e-10,
    }


def memory(seed: int) -> dict[str, float]:
    cell, limit = Cell(seed, GAIN), 300
    restarted = Broyden(limit, MEMORY)(cell, cell.start, 1e-8)
    updates = torch.zeros(MEMORY, D, D, dtype=torch.float64)
    z, h, n = cell.start[0], torch.eye(D, dtype=torch.float64), 0
    g = cell(z[None])[0]
    while g.norm() > 1e-8 and n < limit:
        s = -h @ g
        z, y = z + s, cell((z + s)[None])[0] - g
        updates[n % MEMORY] = torch.outer(s - h @ y, s @ h) / (s @ h @ y)
        h, g, n = torch.eye(D, dtype=torch.float64) + updates.sum(0), g + y, n + 1
    return {
        "steps, restarted": float(restarted.n_steps),
        "steps, the fault": float(n),
        "SHINE, restarted": residual(
            system := cell.system(restarted.z, restarted.estimate), Shine()(system).u
        ),
        "SHINE, the fault": residual(cell.system(z[None], None), cell.r @ h),
    }


def count(seed: int) -> dict[str, float]:
    cell = Cell(seed, GAIN)
    forward = Broyden(STEPS)(cell, cell.start, 1e-8)
    short = Broyden(forward.n_steps - 1)(cell, cell.start, 1e-8)
    systems = {"all pairs": forward.estimate, "one less, the fault": short.estimate}
    return {
        k: residual(system := cell.system(forward.z, h), Shine()(system).u)
        for k, h in systems.items()
    }


def trained(seed: int, *overrides: str) -> tuple[ImageClassification, MDEQ]:
    """The network that `shine-run problem=mdeq seed=…` ends with, in evaluation mode."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        config = compose("config", ["problem=mdeq", f"seed={seed}", *overrides])
    task = instantiate(config.problem, _partial_=True)(data=instantiate(config.data), device="cpu")
    train = instantiate(config.outer)
    state = train.init(task, seed)
    for _ in range(train.length(task)):
        state = train.step(task, state)
    return task, state.network.eval()


def evaluation(seed: int, *overrides: str) -> dict[str, float]:
    return at_both(*trained(seed, *overrides))


@torch.no_grad()
def at_both(task: ImageClassification, network: MDEQ) -> dict[str, float]:
    """Held-out loss and accuracy with the head at f(z*) and at z*."""
    images, labels = task.data.normalise(task.data.test.pixels), task.data.test.labels
    z0, inputs = network.layer_arguments(images)
    layer, flattening = network.equilibrium, Flattening.of(z0)
    f, start = flattening.on_vectors(layer.cell, *inputs), flattening.flatten(z0)
    found = {}
    for n, solver in (("", layer.solver), (", 2 steps", Broyden(2))):
        z = solver(lambda z: z - f(z), start, layer.tol * start.shape[-1] ** 0.5).z
        for name, state in (("f(z*)", f(z)), ("z*", z)):
            logits = network.head(flattening.unflatten(state))
            found[f"loss at {name}{n}"] = float(cross_entropy(logits, labels))
            found[f"accuracy at {name}{n}"] = 100 * float(
                (logits.argmax(-1) == labels).double().mean()
            )
    return found


def main() -> None:
    torch.set_num_threads(1)
    for title, measure, seeds in (
        ("1. refine", refined, SEEDS),
        ("2. OPA", opa, SEEDS),
        ("3. stopping", stopping, SEEDS),
        ("4. tolerance", tolerance, SEEDS),
        ("5. memory", memory, SEEDS),
        ("6. count", count, SEEDS),
        ("7. evaluation", evaluation, TRAINED_SEEDS),
    ):
        found = [measure(seed) for seed in tqdm(range(seeds), title, disable=None, leave=False)]
        print(title)
        for name in found[0]:
            low, middle, high = np.quantile([f[name] for f in found], [0, 0.5, 1])
            print(f"  {name:28}{middle:10.3g}  [{low:.3g}, {high:.3g}]", flush=True)


if __name__ == "__main__":
    main()

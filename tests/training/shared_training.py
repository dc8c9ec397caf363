"""Logs of trainings on Sudoku in float64, by as many processes as start this file (torchrun)."""

import json
import sys
from dataclasses import replace

from shine_exp.inverse.full import Full
from shine_exp.inverse.jacobian_free import JacobianFree
from shine_exp.inverse.refine import Refine
from shine_exp.inverse.shine import Shine
from shine_exp.processes import joined
from shine_exp.solvers.broyden import Broyden
from shine_exp.training.optimisers import Adam
from shine_exp.training.schedules import Cosine
from shine_exp.training.sudoku.cells import InjectedCell
from shine_exp.training.sudoku.network import SudokuNetwork
from shine_exp.training.sudoku.sudoku import Sudoku
from shine_exp.training.train import Train

N_STEPS = 20
METHODS = {
    "full": Full(factor=1.0, max_steps=30),
    "jf": JacobianFree(),
    "refine": Refine(Shine(), Full(factor=1.0, max_steps=3)),
}
TRAIN = Train(
    solver=Broyden(30),
    inverse=JacobianFree(),
    tol=1e-6,
    adjoint_tol=1e-6,
    n_unrolled=None,
    epochs=1,
    pretrain_steps=2,
    n_pretrain_unrolled=3,
    optimiser=Adam(1e-3, 0.9, 0.999),
    schedule=Cosine(1e-4),
    jacobian_weight=0.0,
    precision="float32",
    n_power_steps=0,
)


class InDouble(Sudoku):
    def network(self, layer) -> SudokuNetwork:
        return super().network(layer).double()


def cell() -> InjectedCell:
    return InjectedCell(width=16, heads=2, expansion=1)


def log(name: str, jacobian_weight: float = 0.0) -> dict[str, list[float]]:
    """The log of a training by a method of that name: a number per step."""
    task = InDouble(
        cell,
        box=2,
        n_train=16 * N_STEPS,
        n_test=4,
        fewest_clues=6,
        most_clues=12,  # so that the shares of a batch have unlike numbers of empty cells
        batch_size=16,
        augment=True,
        longer_steps=30,
        n_compared=0,
        exact_steps=30,
        seed=0,
        device="cpu",
    )
    train = replace(TRAIN, inverse=METHODS[name], jacobian_weight=jacobian_weight)
    state = train.init(task, 0)
    for _ in range(N_STEPS):
        train.step(task, state)
    state.read()
    return state.log | {"totals": [*state.missed.values(), *state.solves.values()]}


def all_logs() -> dict[str, dict[str, list[float]]]:
    found = {name: log(name) for name in METHODS}
    return found | {"penalised": log("jf", jacobian_weight=1.0)}


if __name__ == "__main__":
    with joined("cpu") as processes:
        found = all_logs()
        if processes.is_first:
            json.dump(found, sys.stdout)

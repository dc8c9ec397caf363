"""What deq.py compares: our layer by method and solver, TorchDEQ's, and one evaluation alone."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrize

from shine_exp.deq import DEQ
from shine_exp.deq.flattening import Flattening
from shine_exp.runs.composition import CONFIG_DIR
from shine_exp.training.images.mdeq import MDEQ

BASELINES = ("one vjp", "one vjp, z")


@dataclass(frozen=True)
class Setting:
    """What all contenders share: the cell, z₀, the injection and the gradient at the output."""

    cell: nn.Module
    start: list[Tensor]
    injection: Tensor
    r: list[Tensor]

    @property
    def device(self) -> torch.device:
        return self.injection.device

    def leaves(self) -> list[Tensor]:
        """What a backward pass is for: the cell's parameters and the injection."""
        return [*self.cell.parameters(), self.injection]

    def double(self) -> "Setting":
        """A copy in float64."""
        injection = self.injection.detach().double().requires_grad_()
        start, r = [t.double() for t in self.start], [t.double() for t in self.r]
        return Setting(deepcopy(self.cell).double(), start, injection, r)

    def forget(self) -> None:
        for leaf in self.leaves():
            leaf.grad = None


@dataclass(frozen=True)
class Contender:
    """`solve(cell)` is z*, with a graph.

    Its last `n_recorded` evaluations are part of that graph.
    """

    name: str
    solve: Callable[[nn.Module], Sequence[Tensor]]
    n_recorded: int = 1


def configuration(model: str, spec: str, *overrides: str) -> DictConfig:
    """conf/ composed for METHOD or METHOD@SOLVER, either with :STEPS of the backward pass."""
    name, _, steps = spec.partition(":")
    method, _, solver = name.partition("@")
    solver = solver or ("adjoint_broyden" if method == "opa" else "broyden")
    options = ["problem=mdeq", f"problem/model={model}", f"method={method}", f"solver={solver}"]
    limit = [f"method.max_steps={steps}"] if steps else []
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose("config", [*options, "problem.architecture.dropout=0", *limit, *overrides])


def setting(model: str, batch: int, pretrain: int, device: str) -> Setting:
    """A seeded network after `pretrain` steps, and what surrounds its cell."""
    torch.manual_seed(0)
    architecture = instantiate(configuration(model, "shine").problem.architecture)
    network = MDEQ(architecture, 3, 10, lambda cell: DEQ(cell, lambda *_: None, None)).on(device)
    images, labels = (
        torch.randn(batch, 3, 32, 32).to(device),
        torch.randint(10, (batch,)).to(device),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    network.equilibrium.n_unrolled = 5
    for _ in range(pretrain):
        optimizer.zero_grad()
        cross_entropy(network(images), labels).backward()
        optimizer.step()
    with torch.no_grad():
        start, (x,) = network.layer_arguments(images)
    r = [torch.randn(t.shape).to(t) for t in start]
    return Setting(network.equilibrium.cell, start, x.requires_grad_(), r)


def ours(at: Setting, model: str, spec: str, *overrides: str) -> Contender:
    config = configuration(model, spec, *overrides)
    solver, inverse = instantiate(config.solver), instantiate(config.method)

    def loss(z: Sequence[Tensor]) -> Tensor:  # whose gradient is r
        return torch.stack([(a * b).sum() for a, b in zip(z, at.r, strict=True)]).sum()

    def solve(cell: nn.Module) -> Sequence[Tensor]:
        layer = DEQ(cell, solver, inverse, tol=0.0, adjoint_tol=0.0)
        return layer(at.start, at.injection, loss=loss)

    return Contender(spec, solve)


def peers(at: Setting, model: str) -> list[Contender]:
    """TorchDEQ's forward solvers with implicit differentiation, and with its unrolled phantom
    gradient.
    """
    from torchdeq import get_deq
    from torchdeq.solver import broyden_solver, register_solver

    register_solver("broyden, 5 pairs", partial(broyden_solver, LBFGS_thres=5))
    config = configuration(model, "full")
    steps = {
        "f_max_iter": config.solver.max_steps,
        "b_max_iter": config.method.max_steps,
        "f_tol": 0.0,
        "b_tol": 0.0,
    }
    flattening = Flattening.of(at.start)

    def contender(
        name: str, n_recorded: int = 1, flat: bool = False, **options: object
    ) -> Contender:
        deq = get_deq(**steps, **options)

        def solve(cell: nn.Module) -> Sequence[Tensor]:
            with parametrize.cached():
                for module in cell.modules():
                    _ = (
                        module.weight if parametrize.is_parametrized(module, "weight") else None
                    )  # with its graph
                if not flat:
                    return deq(lambda *z: cell(z, at.injection), at.start)[0][-1]
                f = flattening.on_vectors(cell, at.injection)
                return flattening.unflatten(deq(f, flattening.flatten(at.start))[0][-1])

        return Contender(f"torchdeq {name}", solve, n_recorded)

    broyden = {"f_solver": "broyden", "b_solver": "broyden"}
    anderson = {"f_solver": "anderson", "b_solver": "anderson"}
    return [
        contender("broyden", ift=True, **broyden),
        contender("broyden, flat", flat=True, ift=True, **broyden),
        contender("broyden, hook", hook_ift=True, **broyden),
        contender("broyden, 5 pairs", hook_ift=True, **broyden | {"b_solver": "broyden, 5 pairs"}),
        contender("anderson", ift=True, **anderson),
        contender("phantom 5", n_recorded=5, grad=5, tau=0.5, **broyden),
    ]


def baselines(at: Setting, z: list[Tensor]) -> list[Contender]:
    def solve(with_z: bool, cell: nn.Module) -> Sequence[Tensor]:
        return cell([t.detach().requires_grad_(with_z) for t in z], at.injection)

    return [
        Contender(name, partial(solve, with_z))
        for name, with_z in zip(BASELINES, (False, True), strict=True)
    ]

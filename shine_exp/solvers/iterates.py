"""The iterates of a batch of root problems: each stops, fails and keeps its best on its own."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from shine_exp.solvers.looks import steps_between_looks
from shine_exp.types import InverseEstimate, Solution, Status

# g: (..., d) → (..., d), independent over the leading axes; for a fixed point of f it is id − f.
# g must not change its argument z.
RootFunction = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Visit:
    """A point z, g(z) and ‖g(z)‖.

    With `record`, `leaf` and `image` are the two ends of the recorded graph from z to g(z).
    """

    z: Tensor
    g: Tensor
    residual: Tensor
    leaf: Tensor
    image: Tensor


class Iterates:
    """z and g(z) of root problems that share nothing but the loop.

    Both are (batch, d), with the leading axes of z₀ flattened into one. A sample is `active` until
    ‖g(z)‖ ≤ tol, g(z) is not finite, or `max_steps` are done. From then on its z stands still, at
    the best iterate if it failed; g is still evaluated on the whole batch. `moved` are the samples
    that the last step took to a finite g(z), and `improved` those of them whose residual is their
    lowest so far. With `record`, each evaluation keeps its graph until the next one, for `vjp`.

    Which samples are active stays on the device. Every few steps, as `solvers.looks` says, the
    loop looks whether any still is; what it does in between changes no sample that is done.
    """

    def __init__(
        self,
        g: RootFunction,
        z0: Tensor,
        tol: float | Tensor,
        max_steps: int,
        *,
        record: bool = False,
    ) -> None:
        self._g = g
        self._shape = z0.shape
        self._record = record
        self._max_steps = max_steps
        self.n_steps = self.n_evals = 0
        self._look_every = steps_between_looks(z0.device)
        self._best_z = z0.detach().reshape(-1, z0.shape[-1]).clone()
        self.active = torch.ones(len(self._best_z), dtype=torch.bool, device=z0.device)
        self._failed = ~self.active
        self._best_residual = torch.full_like(self._best_z[:, 0], torch.inf)
        if not isinstance(tol, Tensor):
            tol = z0.new_full((), tol)  # filled there: a tensor made here would have to be copied
        self._tol = tol.expand(z0.shape[:-1]).reshape(-1)
        self._arrive(self._visit(self._best_z.clone()))

    @property
    def z(self) -> Tensor:
        return self._here.z

    @property
    def g(self) -> Tensor:
        return self._here.g

    @property
    def running(self) -> bool:
        """Whether to make another step: some sample may be active."""
        return self._may_be_active and self.n_steps < self._max_steps

    def step(self, p: Tensor, max_halvings: int = 0) -> Tensor:
        """z ← z + t p for the active samples, p (batch, d); the answer is t (batch, 1).

        t is 1, halved at most `max_halvings` times for each sample on which ‖g‖ would not fall.
        """
        t = torch.ones_like(self._best_z[:, :1])
        trial = self._visit_along(p, t)
        for _ in range(max_halvings):
            # Written as "not less", which also holds for a residual that is NaN.
            too_long = self.active & ~(trial.residual < self._here.residual)
            if self._look_every is not None and not too_long.any():
                break
            t = torch.where(too_long[:, None], t / 2, t)
            trial = self._visit_along(p, t)
        self.n_steps += 1
        self._arrive(trial)
        return t

    def vjp(self, v: Tensor) -> Tensor:
        """Jᵀv (batch, d) with J = ∂g/∂z at the current iterates.

        Costs about one evaluation and is counted as one.
        """
        self.n_evals += 1
        (product,) = torch.autograd.grad(self._here.image, self._here.leaf, v, retain_graph=True)
        return product

    def at_iterates(self, direction: Callable[[Tensor], Tensor]) -> Tensor:
        """direction(z) (batch, d), where `direction` sees z in the shape of z₀."""
        return direction(self.z.reshape(self._shape)).detach().reshape(self.z.shape)

    def solution(self, estimate: InverseEstimate | None) -> Solution:
        """The best iterate of each sample, in the shape of z₀; CONVERGED if every sample is.

        The residual of a sample on which g was never finite is infinite.
        """
        converged = self._best_residual <= self._tol
        batch = self._shape[:-1]
        residual, converged, failed = (
            t.reshape(batch) for t in (self._best_residual, converged, self._failed)
        )
        return Solution(
            z=self._best_z.reshape(self._shape),
            estimate=estimate,
            residual=residual,
            n_steps=self.n_steps,
            n_evals=self.n_evals,
            status=partial(_status, converged, failed),
            converged=converged,
            diverged=failed,
        )

    def _visit_along(self, p: Tensor, t: Tensor) -> _Visit:
        z = torch.addcmul(self.z, t, p)
        if not self._all_are_active:
            z = torch.where(self.active[:, None], z, self._best_z)
        return self._visit(z)

    def _visit(self, z: Tensor) -> _Visit:
        self.n_evals += 1
        leaf = z.detach().requires_grad_(self._record)
        with torch.set_grad_enabled(self._record):
            image = self._g(leaf.reshape(self._shape)).reshape(z.shape)
        g = image.detach()
        return _Visit(z, g, g.norm(dim=-1), leaf, image)

    def _arrive(self, visit: _Visit) -> None:
        finite = visit.residual.isfinite()
        self.moved = self.active & finite
        self.improved = self.moved & (visit.residual < self._best_residual)
        self._failed = self._failed | (self.active & ~finite)
        self._best_residual = torch.where(self.improved, visit.residual, self._best_residual)
        self._here = visit
        self.active = self.moved & (visit.residual > self._tol) & (self.n_steps < self._max_steps)
        self._may_be_active, self._all_are_active, all_improved = self._look()
        if all_improved:
            self._best_z = visit.z
        else:
            self._best_z = torch.where(self.improved[:, None], visit.z, self._best_z)

    def _look(self) -> tuple[bool, bool, bool]:
        """Whether any sample may be active, all are known to be, and all to have improved.

        The one wait for the device in a step that halves nothing. Where all samples are active, or
        all improved, it saves a pass over z.
        """
        if self._look_every is None or self.n_steps % self._look_every:
            return True, False, False
        counts: list[int] = torch.stack([self.active.sum(), self.improved.sum()]).tolist()
        n_active, n_improved = counts
        return n_active > 0, n_active == len(self.active), n_improved == len(self.active)


def _status(converged: Tensor, failed: Tensor) -> Status:
    """That of the worst sample."""
    if bool(failed.any()):
        return Status.DIVERGED
    return Status.CONVERGED if bool(converged.all()) else Status.MAX_STEPS

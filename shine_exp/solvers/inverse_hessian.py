"""The inverse Hessian of L-BFGS as a linear operator."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

INITIAL_CAPACITY = 32  # rows allotted before the first doubling, where the memory is unlimited
CURVATURE = 1e-10  # a pair is kept when sᵀy > CURVATURE ‖s‖‖y‖


@dataclass(frozen=True)
class Projection:
    """S v and Y v (..., n_pairs): all that H needs to know of the history to be applied to v."""

    s: Tensor
    y: Tensor


class InverseHessian:
    """H ≈ (∇²G)⁻¹ from the m latest secant pairs (s, y), H₀ = γI, in the compact form of BFGS:

        H = γI + Sᵀ[R⁻ᵀ(D + γ Y Yᵀ)R⁻¹]S − γ Sᵀ R⁻ᵀ Y − γ Yᵀ R⁻¹ S,
        R = triu(S Yᵀ),    D = diag(S Yᵀ)

    with the pairs as rows, oldest first (Byrd, Nocedal & Schnabel 1994, eq. 2.6). The same
    operator as the two-loop recursion, but in two passes over contiguous memory. Secant equation:
    H y = s for the newest pair.
    """

    def __init__(
        self, memory: int | None, initial: Literal["scaled", "identity"] = "scaled"
    ) -> None:
        self.memory = memory
        self.scaled = initial == "scaled"
        self.gamma = 1.0
        self._count = 0
        self._oldest = 0
        self._history: tuple[Tensor, Tensor] | None = (
            None  # S, Y, each (capacity, d), a ring once it is full
        )
        self._sy = self._yy = torch.empty(0, 0)  # S Yᵀ (upper triangle) and Y Yᵀ, oldest first

    @classmethod
    def from_pairs(
        cls,
        s: Tensor,
        y: Tensor,
        memory: int | None,
        initial: Literal["scaled", "identity"] = "scaled",
    ) -> "InverseHessian":
        """The estimate of the pairs in the rows of s and y (n, d), oldest first.

        Two matrix products in place of n appends: pairs without clear positive curvature are left
        out, and of the others the last `memory` are kept.
        """
        inverse = cls(memory, initial)
        curvature = (s * y).sum(-1)
        lengths = torch.linalg.vector_norm(s, dim=-1) * torch.linalg.vector_norm(y, dim=-1)
        usable = (curvature > CURVATURE * lengths).nonzero()[:, 0]
        usable = usable if memory is None else usable[-memory:]
        if len(usable):
            rows = (s, y) if len(usable) == len(s) else (s[usable], y[usable])
            inverse._take(*rows)
        return inverse

    def _take(self, s: Tensor, y: Tensor) -> None:
        """Make these pairs, rows (n, d), all that is known; the tensors themselves are copied."""
        self._count = self._oldest = 0
        self._history = None
        self._allot(self.memory or max(INITIAL_CAPACITY, 2 * len(s)), s[0])
        assert self._history is not None
        for rows, new in zip(self._history, (s, y), strict=True):
            rows[: len(s)] = new
        self._count = len(s)
        self._remeasure()

    def _remeasure(self) -> None:
        """S Yᵀ, Y Yᵀ and γ of a history that begins with its oldest pair."""
        assert self._history is not None
        s, y = (rows[: self._count] for rows in self._history)
        self._sy, self._yy = torch.triu(s @ y.T), y @ y.T
        if self.scaled:
            self.gamma = float(self._sy[-1, -1] / self._yy[-1, -1])

    def copy(self) -> "InverseHessian":
        """The same estimate, to be changed on its own."""
        return InverseHessian.from_state_dict(self.state_dict())

    def shifted(self, diagonal: Tensor) -> "InverseHessian":
        """The estimate of the pairs (s, y + diagonal ∘ s), diagonal (d,) or (1,): what they are
        once diag(diagonal) is added to the Hessian.
        """
        s, y = self.pairs()
        initial: Literal["scaled", "identity"] = "scaled" if self.scaled else "identity"
        if len(s) == 0:
            return InverseHessian(self.memory, initial)
        return InverseHessian.from_pairs(s, torch.addcmul(y, diagonal, s), self.memory, initial)

    def remeasured(self, product: Callable[[Tensor], Tensor]) -> "InverseHessian":
        """The estimate of the pairs (s, product(s)), with v ↦ ∇²G v as it is now."""
        s, _ = self.pairs()
        initial: Literal["scaled", "identity"] = "scaled" if self.scaled else "identity"
        if len(s) == 0:
            return InverseHessian(self.memory, initial)
        y = torch.stack([product(step) for step in s])
        return InverseHessian.from_pairs(s, y, self.memory, initial)

    def state_dict(self) -> dict[str, Any]:
        """All of it, as numbers and tensors, to the bit: rows stay where they are in the ring."""
        rows = {} if self._history is None else dict(zip("sy", self._history, strict=True))
        return {
            "memory": self.memory,
            "scaled": self.scaled,
            "gamma": self.gamma,
            "oldest": self._oldest,
            "sy": self._sy.clone(),
            "yy": self._yy.clone(),
            **{f"history_{name}": t[: self._count].clone() for name, t in rows.items()},
        }

    @classmethod
    def from_state_dict(cls, saved: dict[str, Any]) -> "InverseHessian":
        """The estimate that `state_dict` was taken of."""
        inverse = cls(saved["memory"], "scaled" if saved["scaled"] else "identity")
        if "history_s" in saved:
            s, y = saved["history_s"], saved["history_y"]
            inverse._allot(inverse.memory or max(INITIAL_CAPACITY, 2 * len(s)), s[0])
            assert inverse._history is not None
            inverse._history[0][: len(s)], inverse._history[1][: len(s)] = s, y
            inverse._count = len(s)
        inverse.gamma, inverse._oldest = saved["gamma"], saved["oldest"]
        inverse._sy, inverse._yy = saved["sy"].clone(), saved["yy"].clone()
        return inverse

    def __len__(self) -> int:
        return self._count

    def pairs(self) -> tuple[Tensor, Tensor]:
        """S and Y (n, d), oldest first."""
        if self._history is None:
            return torch.empty(0, 0), torch.empty(0, 0)
        s, y = (rows[: self._count] for rows in self._history)
        if self._oldest == 0:
            return s, y
        oldest = self._oldest
        return torch.cat([s[oldest:], s[:oldest]]), torch.cat([y[oldest:], y[:oldest]])

    def project(self, v: Tensor) -> Projection:
        """One pass over the history: (..., d) → two (..., n_pairs), oldest first."""
        if self._history is None:
            empty = v.new_empty(*v.shape[:-1], 0)
            return Projection(empty, empty)
        order = self._order()
        s, y = (rows[: self._count] for rows in self._history)
        return Projection((v @ s.T)[..., order], (v @ y.T)[..., order])

    def matvec(self, v: Tensor, projection: Projection | None = None) -> Tensor:
        """H v, (..., d) → (..., d).

        A projection of v that is already known saves half of the work.
        """
        if self._history is None:
            return self.gamma * v
        known = projection or self.project(v)
        upper = torch.triu(self._sy)
        a = _solve(upper, known.s, upper=True)
        c = _solve(
            upper.T, a * self._sy.diagonal() - self.gamma * (known.y - a @ self._yy), upper=False
        )
        position = self._position()
        s, y = (rows[: self._count] for rows in self._history)
        return (self.gamma * v).add_(c[..., position] @ s).sub_((self.gamma * a)[..., position] @ y)

    def rmatvec(self, v: Tensor) -> Tensor:
        """Hᵀ v = H v."""
        return self.matvec(v)

    def append(self, s: Tensor, y: Tensor, projection: Projection | None = None) -> bool:
        """Take the pair (s, y), each (d,), in place of the oldest where the memory is full.

        `projection` is that of y, where it is already known. A pair without clear positive
        curvature would make H indefinite: it is left out, and the answer is False.
        """
        sy, yy = s @ y, y @ y
        if not sy > CURVATURE * torch.sqrt((s @ s) * yy):
            return False
        known = projection or self.project(y)
        drop = 1 if self._count == self.memory else 0
        self._sy = _bordered(
            self._sy[drop:, drop:], torch.zeros_like(known.s[drop:]), known.s[drop:], sy
        )
        self._yy = _bordered(self._yy[drop:, drop:], known.y[drop:], known.y[drop:], yy)
        self._store(s, y)
        if self.scaled:
            self.gamma = float(sy / yy)
        return True

    def grow(self, at_most: int) -> None:
        """Room for twice as many pairs, up to `at_most`; what is kept stays as it is."""
        if self.memory is not None and self.memory < at_most:
            self.memory = min(2 * self.memory, at_most)
            if self._history is not None:
                self._allot(self.memory, self._history[0][0])

    def _store(self, s: Tensor, y: Tensor) -> None:
        if self._history is None or (self.memory is None and self._count == len(self._history[0])):
            self._allot(self.memory or max(INITIAL_CAPACITY, 2 * self._count), s)
        assert self._history is not None
        if self._count == self.memory:
            slot, self._oldest = self._oldest, (self._oldest + 1) % self._count
        else:
            slot, self._count = self._count, self._count + 1
        self._history[0][slot] = s
        self._history[1][slot] = y

    def _allot(self, capacity: int, like: Tensor) -> None:
        """Rows for so many pairs, those that are there first, oldest first."""
        new = (like.new_empty(capacity, len(like)), like.new_empty(capacity, len(like)))
        for rows, kept in zip(new, self.pairs(), strict=True):
            if self._count:
                rows[: self._count] = kept
        self._history, self._oldest = new, 0

    def _order(self) -> Tensor:
        """Row of the ring for each pair, oldest first."""
        return (torch.arange(self._count) + self._oldest) % max(self._count, 1)

    def _position(self) -> Tensor:
        """Age of the pair in each row of the ring: the inverse permutation of `_order`."""
        return (torch.arange(self._count) - self._oldest) % max(self._count, 1)


def _solve(triangle: Tensor, rows: Tensor, upper: bool) -> Tensor:
    """x with triangle · x = rows, over the last axis."""
    solution: Tensor = torch.linalg.solve_triangular(triangle, rows.unsqueeze(-1), upper=upper)
    return solution.squeeze(-1)


def _bordered(matrix: Tensor, row: Tensor, column: Tensor, corner: Tensor) -> Tensor:
    """The matrix with one more row and column."""
    n = len(row)
    bordered = corner.new_empty(n + 1, n + 1)
    bordered[:n, :n] = matrix
    bordered[n, :n], bordered[:n, n], bordered[n, n] = row, column, corner
    return bordered

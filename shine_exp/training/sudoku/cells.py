"""One block of attention as a cell f(z, x): two ways to put x and the normalisations in.

z and x have a vector for each cell of the grid, (batch, tokens, width), and

    attend(y) = softmax(q kᵀ / √d) v O  over all tokens, q, k, v = y Q, y K, y V in `heads` heads
    think(y) = W₂ gelu(W₁ y + b₁) + b₂
    rms(y) = y / √(mean of y² over the width)
"""

from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn.functional import gelu, rms_norm


class Block(nn.Module):
    """`attend` and `think`; `expansion` is the hidden width of the latter, relative to `width`."""

    def __init__(self, width: PositiveInt, heads: PositiveInt, expansion: PositiveInt) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width, bias=False)
        self.inner = nn.Linear(width, expansion * width)
        self.outer = nn.Linear(expansion * width, width)
        for last in (self.mix, self.outer):  # of a branch: half as long as what it is added to
            nn.init.normal_(last.weight, std=0.5 / last.in_features**0.5)

    def attend(self, y: Tensor) -> Tensor:
        batch, tokens, width = y.shape
        joint = self.queries_keys_values(y).view(batch, tokens, 3, self.heads, -1)
        q, k, v = joint.permute(2, 0, 3, 1, 4)  # (batch, heads, tokens, width / heads) each
        # PyTorch's own attention has no second derivative, which a Jacobian penalty takes.
        seen = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
        mixed: Tensor = self.mix(seen.transpose(1, 2).reshape(batch, tokens, width))
        return mixed

    def think(self, y: Tensor) -> Tensor:
        thought: Tensor = self.outer(gelu(self.inner(y)))
        return thought

    def rms(self, y: Tensor) -> Tensor:
        return rms_norm(y, (self.width,), eps=1e-6)


class PostCell(Block):
    """u = z + x,  h = rms(u + attend(u)),  f = rms(h + think(h)).

    The block of hierarchical and tiny recursive models (HRM, Wang et al. 2025; TRM,
    Jolicoeur-Martineau 2025), where normalisation follows each addition.
    """

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        u = z + x
        h = self.rms(u + self.attend(u))
        return self.rms(h + self.think(h))


class InjectedCell(Block):
    """h = x + attend(rms(z + x)),  f = rms(h + think(rms(h))).

    z enters the attention alone, and no path adds it to f: x is injected anew in every application.
    """

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        h = x + self.attend(self.rms(z + x))
        return self.rms(h + self.think(self.rms(h)))

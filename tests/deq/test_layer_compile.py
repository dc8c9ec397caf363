"""The layer inside a compiled model: run as it is, whatever the number of steps."""

import pytest
import torch
import torch._dynamo
from deq_cells import TanhCell, normal
from torch import Tensor, nn

from shine_exp.deq import DEQ
from shine_exp.inverse.full import Full
from shine_exp.inverse.shine import Shine
from shine_exp.solvers.broyden import Broyden


class Model(nn.Module):
    def __init__(self, inverse) -> None:
        super().__init__()
        self.layer = DEQ(TanhCell(), Broyden(50), inverse)

    def forward(self, x: Tensor) -> Tensor:
        z = self.layer(x.new_zeros(len(x), 8), x=torch.sin(x))
        return torch.relu_(z) @ x.new_ones(8)


@pytest.mark.parametrize("inverse", [Full(max_steps=100), Shine()])
def test_layer_torch_compile_does_not_compile_the_solver(inverse) -> None:
    """Solves of different lengths, none of which is a reason to compile anything again."""
    model, steps = Model(inverse), set()
    torch._dynamo.reset()
    with torch._dynamo.config.patch(error_on_recompile=True):
        compiled = torch.compile(model, backend="eager")
        for model.layer.tol in (1e-1, 1e-3, 1e-6, 1e-9):
            x = normal(3, 3, seed=7)
            model.zero_grad()
            compiled(x).sum().backward()
            found = model.layer.cell.weight.grad.clone()
            steps.add(model.layer.last.steps)
            model.zero_grad()
            model(x).sum().backward()
            assert torch.equal(found, model.layer.cell.weight.grad)
    assert len(steps) == 4, "the solves were to differ"
    torch._dynamo.reset()

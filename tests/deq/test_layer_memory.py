"""What the backward pass of a layer keeps, by the peak of a process: vectors of 8 MB show above
everything else.
"""

import os
import subprocess
import sys

import pytest

VECTOR = 4 * 2 * 10**6  # bytes of a state

RUN = """
import re, sys
from pathlib import Path
import torch
from torch import nn
from shine_exp.inverse.full import Full
from shine_exp.deq import DEQ
from shine_exp.solvers.fixed_point import FixedPoint

class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.9))
    def forward(self, z, x):
        return torch.tanh(self.gain * z.roll(1, 1) + x)

def peak_after(steps):
    inverse = Full(factor=1.0, max_steps=steps, memory={memory})
    layer = DEQ(Cell(), FixedPoint(5), inverse, adjoint_tol=0.0)
    layer(torch.zeros(2, 10**6), torch.randn(2, 10**6)).square().sum().backward()
    assert layer.last.products == steps
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1])

torch.manual_seed(0)
few = peak_after(8)
print(peak_after(28) - few)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("memory", "vectors"), [pytest.param(None, 20, marks=pytest.mark.slow), (5, 0)]
)
def test_layer_peak_memory_grows_with_the_backward_steps_up_to_the_secant_pairs(
    memory: int | None, vectors: int
) -> None:
    command = [sys.executable, "-c", RUN.format(memory=memory)]
    environment = os.environ | {
        "MALLOC_MMAP_THRESHOLD_": str(10**6)
    }  # glibc: what is freed is given back
    output = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment
    ).stdout
    assert int(output) / VECTOR == pytest.approx(vectors, abs=2)

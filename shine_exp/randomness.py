"""Random numbers that follow from the seed of a run and from where in the run they are drawn."""

import numpy as np
import torch


def generator(*numbers: int) -> torch.Generator:
    """PyTorch's, on the CPU, seeded by all of the numbers, each 0 or larger.

    Through NumPy's `SeedSequence`, since PyTorch's own seed counts only in its low 32 bits.
    """
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))

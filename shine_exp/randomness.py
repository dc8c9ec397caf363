"""Random numbers that follow from the seed of a run and from where in the run they are drawn."""

import numpy as np
import torch


def generator(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """PyTorch's, seeded by all of the numbers, each 0 or larger.

    What is large is drawn on the device where it is used; each kind of device has numbers of its
    own.

    Through NumPy's `SeedSequence`, since PyTorch's own seed counts only in its low 32 bits.
    """
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    return torch.Generator(device).manual_seed(seed)

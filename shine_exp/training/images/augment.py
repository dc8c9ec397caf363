"""Random changes of training images that keep their class."""

import torch
from torch import Tensor
from torch.nn.functional import pad


def crop_and_flip(batch: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Each image is padded by zeros, cropped at random, and mirrored one time in two.

    Zero is the mean of normalised images.
    The usual augmentation of CIFAR-10 (He et al. 2016, section 4.2, with 4 pixels of padding).
    Shapes (n, channels, height, width) → the same, any dtype and device; the random numbers are
    drawn on the generator's.
    """
    n, channels, height, width = batch.shape
    down, right = _integers(2 * padding + 1, (2, n, 1), generator, batch.device)
    rows = down + torch.arange(height, device=batch.device)
    columns = right + torch.arange(width, device=batch.device)
    columns = torch.where(
        _integers(2, (n, 1), generator, batch.device) == 1, columns.flip(1), columns
    )
    image = torch.arange(n, device=batch.device)[:, None, None, None]
    channel = torch.arange(channels, device=batch.device)[:, None, None]
    padded = pad(batch, (padding,) * 4)
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def _integers(
    below: int, shape: tuple[int, ...], generator: torch.Generator, device: torch.device
) -> Tensor:
    return torch.randint(below, shape, generator=generator, device=generator.device).to(device)

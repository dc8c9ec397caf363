import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from shine_exp.training.images.augment import crop_and_flip

DTYPES = [torch.uint8, torch.int64, torch.float32, torch.float64]


def numbered(n: int, channels: int, height: int, width: int, dtype: torch.dtype) -> Tensor:
    """Pixels that are all different and not 0, as far as the dtype goes."""
    return (
        torch.arange(1, n * channels * height * width + 1)
        .reshape(n, channels, height, width)
        .to(dtype)
    )


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def windows(image: Tensor, padding: int) -> list[tuple[int, int, bool, np.ndarray]]:
    """Every crop of the padded image, and its mirror image, by plain slicing."""
    height, width = image.shape[1:]
    padded = np.pad(image.numpy(), ((0, 0), (padding, padding), (padding, padding)))
    crops = [
        (down, right, padded[:, down : down + height, right : right + width])
        for down in range(2 * padding + 1)
        for right in range(2 * padding + 1)
    ]
    return [
        (d, r, flip, crop[..., ::-1] if flip else crop)
        for d, r, crop in crops
        for flip in (False, True)
    ]


@given(
    st.tuples(st.integers(0, 4), st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)),
    st.sampled_from(DTYPES),
    st.integers(0, 3),
    st.integers(0, 2**32),
)
@settings(max_examples=80)
def test_every_image_is_a_window_of_its_own_or_the_mirror_image_of_one(
    shape: tuple[int, int, int, int], dtype: torch.dtype, padding: int, seed: int
) -> None:
    batch = numbered(*shape, dtype)
    before = batch.clone()
    out = crop_and_flip(batch, padding, generator(seed))
    assert (out.shape, out.dtype) == (batch.shape, batch.dtype)
    assert torch.equal(batch, before)
    for image, changed in zip(batch, out, strict=True):
        assert any(
            np.array_equal(window, changed.numpy()) for *_, window in windows(image, padding)
        )


def test_every_window_is_as_likely_as_any_other() -> None:
    n, padding = 3600, 1
    image = numbered(1, 1, 3, 3, torch.uint8)
    out = crop_and_flip(image.expand(n, -1, -1, -1), padding, generator(0)).numpy()
    counts = [
        sum(np.array_equal(window, one) for one in out) for *_, window in windows(image[0], padding)
    ]
    assert len(counts) == 18
    assert sum(counts) == n
    chi2 = sum((count - n / 18) ** 2 / (n / 18) for count in counts)
    assert chi2 < 40.8  # the 99.9 % quantile with 17 degrees of freedom


def test_generator_decides() -> None:
    batch = numbered(16, 1, 8, 8, torch.float32)
    shared = generator(1)
    first, second = crop_and_flip(batch, 2, shared), crop_and_flip(batch, 2, shared)
    assert torch.equal(first, crop_and_flip(batch, 2, generator(1)))
    assert not torch.equal(first, second)


def test_without_padding_images_are_only_mirrored() -> None:
    batch = numbered(64, 2, 3, 4, torch.uint8)
    out = crop_and_flip(batch, 0, generator(0))
    mirrored = (out == batch.flip(3)).all(dim=(1, 2, 3))
    assert 16 < int(mirrored.sum()) < 48
    assert torch.equal(out[~mirrored], batch[~mirrored])


def test_result_is_on_the_device_of_the_batch() -> None:
    batch = torch.empty(4, 3, 8, 8, device="meta")
    assert crop_and_flip(batch, 2, generator(0)).device.type == "meta"

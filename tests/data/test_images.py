import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import Tensor

from shine_exp.data import images as module
from shine_exp.data.images import Images, LabelledImages, balanced_subset
from shine_exp.data.sets.bundled import digits_images
from shine_exp.errors import DataError


def made(
    labels: list[int], shape: tuple[int, int, int] = (2, 3, 4), seed: int = 0
) -> LabelledImages:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (len(labels), *shape), dtype=np.uint8)
    return LabelledImages(torch.from_numpy(pixels), torch.tensor(labels, dtype=torch.int64))


def data(train: LabelledImages, test: LabelledImages | None = None, n_classes: int = 2) -> Images:
    return Images(train, test or made([0, 1]), n_classes, "toy")


def moments(train: Tensor) -> tuple[np.ndarray, np.ndarray]:
    pixels = train.numpy().astype(np.float64)
    return pixels.mean(axis=(0, 2, 3)), pixels.std(axis=(0, 2, 3))


def test_normalises_by_the_training_pixels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 4)  # the last chunk is not full
    train, test = made([0, 1] * 5), made([1, 0, 1], seed=1)
    mean, std = moments(train.pixels)
    expected = (test.pixels.numpy() - mean[:, None, None]) / std[:, None, None]
    found = data(train, test).normalise(test.pixels)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_normalises_single_images_on_their_device() -> None:
    images = data(made([0, 1]))
    assert images.normalise(images.train.pixels[0]).shape == images.shape == (2, 3, 4)
    assert images.normalise(images.train.pixels.to("meta")).device.type == "meta"


def test_constant_channel_is_only_centred() -> None:
    train = made([0, 1, 1])
    train.pixels[:, 1] = 77
    normalised = data(train).normalise(train.pixels)
    np.testing.assert_array_equal(normalised[:, 1].numpy(), 0.0)
    assert float(normalised[:, 0].std(correction=0)) == pytest.approx(1.0, rel=1e-5)
    assert torch.equal(data(train).normalise(train.pixels + 1)[:, 1], torch.ones(3, 3, 4))


def test_training_pixels_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    images = data(made([0, 1]))
    first = images.normalise(images.test.pixels)
    monkeypatch.setattr(torch, "bincount", None)
    assert torch.equal(images.normalise(images.test.pixels), first)


@pytest.mark.parametrize(
    ("train", "test", "n_classes", "fault"),
    [
        (made([0, 0]), made([0]), 1, "needs images of two or more classes, but has 1"),
        (made([0, 2]), made([0]), 2, "the training set has the label 2, but labels go from 0 to 1"),
        (
            made([0, 1]),
            made([-1, 1]),
            2,
            "the test set has the label -1, but labels go from 0 to 1",
        ),
        (made([]), made([0]), 2, "the training set is empty"),
        (made([0, 1]), made([]), 2, "the test set is empty"),
        (
            made([0, 1]),
            made([0], (2, 4, 3)),
            2,
            "training images are 2 × 3 × 4, but test images 2 × 4 × 3; take one",
        ),
        (
            made([0, 1]),
            LabelledImages(made([0, 1]).pixels, torch.zeros(3).long()),
            2,
            "has 2 images, but 3 labels",
        ),
        (
            made([0]),
            LabelledImages(torch.zeros(1, 2, 3, 4), torch.zeros(1).long()),
            2,
            r"has pixels 1 × 2 × 3 × 4 torch.float32 and",
        ),
        (
            made([0]),
            LabelledImages(made([0]).pixels[0], torch.zeros(1).long()),
            2,
            "has pixels 2 × 3 × 4 torch.uint8 and",
        ),
    ],
)
def test_refuses_what_is_no_data_set(
    train: LabelledImages, test: LabelledImages, n_classes: int, fault: str
) -> None:
    with pytest.raises(DataError, match=f"^toy: .*{fault}"):
        Images(train, test, n_classes, "toy")


@st.composite
def labelled(draw: st.DrawFn) -> tuple[LabelledImages, int, int]:
    """Images, the number of classes (each with a member), and the size of a subset."""
    n_classes = draw(st.integers(2, 5))
    labels = [*range(n_classes), *draw(st.lists(st.integers(0, n_classes - 1), max_size=40))]
    labels = draw(st.permutations(labels))
    return made(labels), n_classes, draw(st.integers(n_classes, len(labels)))


@given(labelled(), st.integers(0, 2**32 - 1))
@settings(max_examples=80)
def test_subset_is_balanced_and_in_order(case: tuple[LabelledImages, int, int], seed: int) -> None:
    images, n_classes, n = case
    subset = balanced_subset(images, n, n_classes, seed)
    rows = [pixels.tobytes() for pixels in images.pixels.numpy()]
    index = [rows.index(pixels.tobytes()) for pixels in subset.pixels.numpy()]
    assert len(index) == n
    assert index == sorted(set(index))
    assert torch.equal(subset.labels, images.labels[index])
    taken = torch.bincount(subset.labels, minlength=n_classes)
    used_up = taken == torch.bincount(images.labels, minlength=n_classes)
    assert taken.max() - taken[~used_up].min() <= 1 if not used_up.all() else n == len(rows)


def test_seed_decides_the_subset_and_who_has_one_more() -> None:
    images = made([0, 1, 2, 3] * 10)
    subsets = [balanced_subset(images, 10, 4, seed) for seed in (0, 0, *range(1, 30))]
    assert torch.equal(subsets[0].pixels, subsets[1].pixels)
    assert not torch.equal(subsets[0].pixels, subsets[2].pixels)
    larger = {
        int(label)
        for subset in subsets
        for label in torch.nonzero(torch.bincount(subset.labels) == 3)
    }
    assert larger == {0, 1, 2, 3}


def test_smaller_subset_is_part_of_a_larger_one() -> None:
    images = made([0, 1] * 20)
    small, large = (balanced_subset(images, n, 2, seed=3).pixels.numpy() for n in (6, 11))
    assert {pixels.tobytes() for pixels in small} < {pixels.tobytes() for pixels in large}


def test_refuses_a_subset_that_is_too_small_or_too_large() -> None:
    for n in (2, 7, -1):
        with pytest.raises(
            DataError,
            match=rf"^data.subset={n}: take from 3, the number of classes, to 6, all the images",
        ):
            balanced_subset(made([0, 1, 2] * 2), n, 3, seed=0)
    with pytest.raises(DataError, match=r"^data.seed=-1 must be at least 0$"):
        balanced_subset(made([0, 1, 2] * 2), 3, 3, seed=-1)


def test_reduced_keeps_the_test_set() -> None:
    images = data(made([0, 1] * 5))
    whole = images.reduced(None, None, seed=0)
    assert whole.train is images.train
    assert whole.test is images.test
    less = images.reduced(4, None, seed=0)
    assert torch.equal(less.train.pixels, balanced_subset(images.train, 4, 2, seed=0).pixels)
    assert less.test is images.test
    np.testing.assert_allclose(less._moments[0].flatten(), moments(less.train.pixels)[0], rtol=1e-6)


def test_digits_are_scaled_and_split_by_class() -> None:
    images = digits_images(seed=0, test_fraction=0.2)
    assert (len(images.train.labels), len(images.test.labels)) == (1437, 360)
    assert (images.shape, images.n_classes, images.name) == ((1, 8, 8), 10, "digits_images")
    pixels, labels = (
        torch.cat([getattr(s, part) for s in (images.train, images.test)])
        for part in ("pixels", "labels")
    )
    source = load_digits()
    expected = np.rint(source.data * 255 / 16).astype(np.uint8)
    assert expected.max() == 255
    order = np.lexsort(np.column_stack([labels, pixels.flatten(1)]).T)
    as_source = np.lexsort(np.column_stack([source.target, expected]).T)
    np.testing.assert_array_equal(pixels.flatten(1).numpy()[order], expected[as_source])
    np.testing.assert_array_equal(labels.numpy()[order], source.target[as_source])
    shares = np.bincount(images.test.labels) / np.bincount(source.target)
    np.testing.assert_allclose(shares, 0.2, atol=0.006)


def test_seed_decides_the_split_of_digits() -> None:
    first, again, other = (digits_images(seed, 0.5).test.pixels for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_refuses_a_split_of_digits_without_sense() -> None:
    for fraction in (0.0, 0.009, 0.991, 1.0, float("nan")):
        with pytest.raises(
            DataError, match=rf"^data.test_fraction={fraction}: take from 0.01 to 0.99"
        ):
            digits_images(0, fraction)
    for seed in (-1, 2**32):
        with pytest.raises(DataError, match=rf"^data.seed={seed}: "):
            digits_images(seed, 0.2)
    for fraction in (0.01, 0.99):
        images = digits_images(0, fraction)
        assert len(images.train.labels.unique()) == len(images.test.labels.unique()) == 10


def test_subset_of_the_test_images_is_the_same_for_every_seed() -> None:
    images = Images(made([0, 1] * 5), made([0, 1] * 6), 2, "made")
    one, two = (images.reduced(None, 4, seed) for seed in (0, 1))
    assert torch.equal(one.test.pixels, two.test.pixels)
    assert torch.bincount(one.test.labels).tolist() == [2, 2]
    with pytest.raises(DataError, match=r"^data.test_subset=13: take from 2"):
        images.reduced(None, 13, seed=0)

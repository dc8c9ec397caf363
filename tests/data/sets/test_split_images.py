import numpy as np
import torch

from shine_exp.data.images import Images, LabelledImages
from shine_exp.data.sets.split_images import split_images


def images(n_train: int = 60, n_test: int = 12) -> Images:
    drawn = torch.Generator().manual_seed(0)

    def part(n: int) -> LabelledImages:
        pixels = torch.randint(0, 256, (n, 3, 4, 6), dtype=torch.uint8, generator=drawn)
        return LabelledImages(pixels, torch.arange(n) % 3)

    return Images(part(n_train), part(n_test), 3, "mine")


def test_split_images_draws_from_the_training_images_and_holds_out_the_test_images() -> None:
    source = images()
    splits = split_images(source, n_train=30, n_outer=15, seed=0)
    pixels = source.train.pixels.flatten(1).numpy() / 255
    rows = [{tuple(row) for row in x} for x, _ in (splits.train, splits.outer)]
    assert [len(part) for part in rows] == [30, 15]
    assert not rows[0] & rows[1]
    assert rows[0] | rows[1] <= {tuple(row) for row in pixels}
    np.testing.assert_array_equal(splits.test[0], source.test.pixels.flatten(1).numpy() / 255)
    np.testing.assert_array_equal(splits.test[1], source.test.labels.numpy())
    assert splits.shape == (3, 4, 6)


def test_split_images_follows_the_seed() -> None:
    one, same, other = (split_images(images(), 30, 15, seed) for seed in (0, 0, 1))
    assert one.digest == same.digest != other.digest

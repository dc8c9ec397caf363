"""Images as rows in three sets, for the problems with an outer loss."""

from pydantic import PositiveInt

from shine_exp.data.images import Images, LabelledImages
from shine_exp.data.multiclass import MulticlassDataset, MulticlassSplits
from shine_exp.data.stratified import stratified_split


def split_images(
    images: Images, n_train: PositiveInt, n_outer: PositiveInt, seed: int
) -> MulticlassSplits:
    """Training and outer rows of the training images, drawn by the seed, and all test images.

    Pixels are from 0 to 1, float64: take subsets of large data. Raises `DataError` where the
    training images are too few, or a set lacks a class.
    """
    drawn = stratified_split(_rows(images, images.train), n_train, n_outer, seed)
    test = _rows(images, images.test)
    return MulticlassSplits(
        drawn.train, drawn.outer, (test.x, test.labels), images.name, images.shape
    )


def _rows(images: Images, part: LabelledImages) -> MulticlassDataset:
    x = part.pixels.flatten(1).double().numpy() / 255
    return MulticlassDataset(x, part.labels.numpy(), images.name, shape=images.shape)

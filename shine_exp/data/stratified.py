"""The split of a data set of several classes, each in its share in every set."""

import numpy as np

from shine_exp.data.multiclass import MulticlassDataset, MulticlassSplits
from shine_exp.data.scaling import check_size, scaled
from shine_exp.errors import DataError


def stratified_split(
    data: MulticlassDataset, n_train: int, n_outer: int, seed: int
) -> MulticlassSplits:
    """`n_train` training rows, `n_outer` outer rows, and the rest held out, drawn by the seed.

    Of a class with the share s of all rows, a set of n rows has about n s. Features are
    scaled as `data.scaling` says. Raises `DataError` where a set lacks a class, no row is left to
    hold out, or a scaled set has features that cannot be computed with.
    """
    n = len(data.labels)
    if n_train + n_outer >= n:
        raise DataError(
            f"{data.name}: has {n} rows, of which {n_train} training and {n_outer} outer rows "
            "leave none to hold out; take fewer"
        )
    order = _stratified_order(data.labels, seed)
    rows = np.split(order, [n_train, n_train + n_outer])
    x_train, x_outer, x_test = (data.x[i] for i in rows)
    if data.scaling != "none":
        x_train, x_outer, x_test = scaled(
            [x_train, x_outer, x_test], centred=data.scaling == "standard"
        )
    train, outer, test = (
        (x, data.labels[i]) for x, i in zip((x_train, x_outer, x_test), rows, strict=True)
    )
    splits = MulticlassSplits(train, outer, test, f"{data.name}, seed {seed}", data.shape)
    for name, (x, _) in splits.parts():
        check_size(x, f"{splits.name}: the {name} set", may_be_zero=name == "held-out")
    return splits


def _stratified_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """All rows in an order of which every stretch has the classes in their shares.

    The rows of a class with m rows, drawn in some order, stand at (u + 0) / m, (u + 1) / m, …,
    where 0 ≤ u < 1 is drawn for the class.
    """
    rng = np.random.default_rng(seed)
    place = np.empty(len(labels))
    for members in (np.flatnonzero(labels == label) for label in range(labels.max() + 1)):
        ranks = rng.permutation(len(members))
        place[members] = (rng.random() + ranks) / len(members)
    return np.argsort(place, kind="stable")

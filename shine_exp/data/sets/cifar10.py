"""CIFAR-10, from its own site."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shine_exp.data.image_cache import Decoding, Record, cached
from shine_exp.data.images import Images
from shine_exp.data.io.archive import tar_files
from shine_exp.data.io.download import fetch
from shine_exp.data.io.files import absolute
from shine_exp.errors import DataError, one_line

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32  # bytes: the label, then red, green and blue, row by row
RECORDS = 10_000  # in a file
FILES = {f"data_batch_{k + 1}.bin": ("train", k) for k in range(5)} | {
    "test_batch.bin": ("test", 0)
}
FOLDER = "cifar-10-batches-bin"  # in the archive


def cifar10(cache: str, subset: int | None, test_subset: int | None, seed: int) -> Images:
    """Photographs of ten classes, 50 000 + 10 000 × (3, 32, 32) (Krizhevsky 2009, binary version).

    They are downloaded and decoded once, into the folder `cache`. `subset` and `test_subset` keep
    balanced subsets, as `Images.reduced` does. Raises `DataError` where the download fails, its
    MD5 differs, or as `cached` and `balanced_subset` do.
    """
    folder = absolute(cache)
    images = cached(folder, "cifar10", MD5, lambda: _decoding(folder / "cifar-10-binary.tar.gz"))
    return images.reduced(subset, test_subset, seed)


def _decoding(archive: Path) -> Decoding:
    fetch(URL, archive, f"md5:{MD5}")
    try:
        with archive.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
    except OSError as error:
        raise DataError(f"{archive}: cannot be read ({one_line(error)})") from error
    if found != MD5:
        raise DataError(
            f"{archive}: its MD5 is {found}, not {MD5}; delete the file to download it again"
        )
    return Decoding(CLASSES, {"train": 5 * RECORDS, "test": RECORDS}, _records(archive))


def _records(archive: Path) -> Iterator[Record]:
    missing = set(FILES)
    size = RECORDS * RECORD
    wanted = {(FOLDER, name) for name in FILES}
    for (_, name), data in tar_files(archive, wanted.__contains__, at_most=size):
        if len(data) != size:
            raise DataError(
                f"{archive}: {name} has {len(data)} bytes, not {size}; "
                "delete the archive to download it again"
            )
        missing.discard(name)
        split, batch = FILES[name]
        for i, record in enumerate(np.frombuffer(data, dtype=np.uint8).reshape(RECORDS, RECORD)):
            yield Record(split, batch * RECORDS + i, int(record[0]), record[1:].reshape(SHAPE))
    if missing:
        raise DataError(
            f"{archive}: has no {FOLDER}/{min(missing)}; delete the archive to download it again"
        )

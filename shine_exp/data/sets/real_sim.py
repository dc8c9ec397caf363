"""real-sim, one of the LIBSVM project's own data sets."""

from pathlib import Path

import numpy as np

from shine_exp.data.dataset import Dataset, Matrix, Scaling, two_classes
from shine_exp.data.io.download import download_failed, fetch, record_sha256, verify_sha256
from shine_exp.data.io.files import absolute
from shine_exp.data.sets.libsvm import read_libsvm
from shine_exp.errors import DataError

URL = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/binary/real-sim.bz2"
SHAPE = (72309, 20958)


def real_sim(cache: str, scaling: Scaling, sha256: str | None = None) -> Dataset:
    """Posts on real or simulated vehicles, 72 309 × 20 958, CSR (Ramzi et al. 2022, section 4).

    They are downloaded once, into the folder `cache`. No checksum is published: `sha256` pins one,
    otherwise that of the first copy that proves to be real-sim is recorded beside the file and
    holds from then on. Raises `DataError` where the download fails or brings something else, the
    checksum or the shape differs, or as `read_libsvm` does.
    """
    path = absolute(cache) / "real-sim.bz2"
    is_new = fetch(URL, path)
    verify_sha256(path, sha256)
    try:
        x, labels = _read(path)
    except DataError as error:
        if not is_new:
            raise
        path.unlink(missing_ok=True)  # a page that reports an error, say: the next run asks again
        fault = str(error).removeprefix(str(path)).lstrip(":, ").partition(";")[0]
        raise download_failed(URL, path, f"what came {fault}") from error
    if sha256 is None:
        record_sha256(path)
    return Dataset(x, two_classes(labels, "real_sim"), "real_sim", scaling)


def _read(path: Path) -> tuple[Matrix, np.ndarray]:
    x, labels = read_libsvm(path)
    if x.shape != SHAPE:
        found, expected = (" × ".join(map(str, shape)) for shape in (x.shape, SHAPE))
        raise DataError(
            f"{path}: is {found}, but real-sim is {expected}; delete the file to download it again"
        )
    return x, labels

"""real-sim, one of the LIBSVM project's own data sets."""

from pathlib import Path

from shine_exp.data.dataset import Dataset, Scaling, two_classes
from shine_exp.data.download import fetch, verify_sha256
from shine_exp.data.libsvm import read_libsvm
from shine_exp.errors import DataError

URL = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/binary/real-sim.bz2"
SHAPE = (72309, 20958)


def real_sim(cache: str, scaling: Scaling, sha256: str | None = None) -> Dataset:
    """Posts on real or simulated vehicles, 72 309 × 20 958, CSR; downloaded once into the folder `cache` (section 4).

    No checksum is published: `sha256` pins one, otherwise that of the first download is recorded beside the file and
    holds from then on. Raises `DataError` where the download fails, the checksum or the shape differs, or as
    `read_libsvm` does.
    """
    path = Path(cache).expanduser() / "real-sim.bz2"
    fetch(URL, path)
    verify_sha256(path, sha256)
    x, labels = read_libsvm(path)
    if x.shape != SHAPE:
        found, expected = (" × ".join(map(str, shape)) for shape in (x.shape, SHAPE))
        raise DataError(f"{path}: is {found}, but real-sim is {expected}; delete the file to download it again")
    return Dataset(x, two_classes(labels, "real_sim"), "real_sim", scaling)

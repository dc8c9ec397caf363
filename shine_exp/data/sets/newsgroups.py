"""20 newsgroups, through scikit-learn's own cache.

That cache is a pickle, and unpickling can execute anything: take a folder that nobody else writes
to.
"""

import os
import pickle
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock
from pydantic import PositiveInt

from shine_exp.data.dataset import Dataset, Matrix, Scaling
from shine_exp.data.io.digest import digest_of
from shine_exp.data.io.download import download_failed, fetch
from shine_exp.data.multiclass import MulticlassDataset
from shine_exp.errors import DataError, one_line

URL = "https://ndownloader.figshare.com/files/5975967"
# As scikit-learn has it.
SHA256 = "8f1b2514ca22a5ade8fbb9cfa5727df95fa587f4c87b786e15c759fa66d95610"


def newsgroups(scaling: Scaling, data_home: str | None = None) -> Dataset:
    """All posts as ℓ²-normalised term counts, 18 846 × 130 107, CSR (Ramzi et al. 2022, section 4).

    Of the twenty groups the first ten are labelled −1, the others +1. `data_home` is
    scikit-learn's cache folder, by default its own choice (`SCIKIT_LEARN_DATA`). Raises
    `DataError` where the data is neither there nor can be downloaded, or where the copy is
    damaged.
    """
    x, target = _posts(data_home)
    return Dataset(x, np.where(target < 10, -1.0, 1.0), "20news", scaling)


def newsgroups_classes(
    scaling: Scaling, min_df: PositiveInt, data_home: str | None = None
) -> MulticlassDataset:
    """The same posts in their twenty classes, and the words that `min_df` posts have or more.

    Raises `DataError` as `newsgroups` does, and where no word is in so many posts.
    """
    x, target = _posts(data_home)
    n_posts = np.bincount(x.indices, minlength=x.shape[1])
    frequent = n_posts >= min_df
    if not frequent.any():
        raise DataError(
            f"20news_classes: data.min_df={min_df}: no word is in so many posts, the most frequent "
            f"one is in {n_posts.max()}"
        )
    return MulticlassDataset(x[:, frequent], target.astype(np.int64), "20news_classes", scaling)


def _posts(data_home: str | None) -> tuple[Matrix, np.ndarray]:
    """The term counts, CSR, and the group of each post."""
    from scipy.sparse import csr_matrix  # slow to import, as is scikit-learn
    from sklearn.datasets import get_data_home

    try:
        home = Path(get_data_home(data_home))
    except OSError as error:
        raise DataError(
            f"scikit-learn's data folder is unusable ({one_line(error)}); set data.data_home"
        ) from error
    with _exclusive(home):
        try:
            x, target = _load(home, download_if_missing=False)
        except OSError as error:
            if not os.access(home, os.W_OK):
                raise DataError(
                    f"{home}: has no vectorised copy and cannot be written ({one_line(error)}); "
                    "copy it to a folder of your own, and set data.data_home"
                ) from error
            x, target = _download(home)
    return csr_matrix(x), target


@contextmanager
def _exclusive(home: Path) -> Iterator[None]:
    """One process at a time fills the cache: scikit-learn's own writes are not atomic."""
    if not os.access(home, os.W_OK):
        yield
        return
    lock = FileLock(home / "20news.lock")
    try:
        lock.acquire()
    except OSError as error:
        raise DataError(
            f"{lock.lock_file}: cannot be locked ({one_line(error)}); delete it"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _download(home: Path) -> tuple[Matrix, np.ndarray]:
    """Put the archive where scikit-learn unpacks it.

    It is checked here: scikit-learn would download another in place of one that it refuses.
    """
    archive = home / "20news_home" / "20news-bydate.tar.gz"
    fetch(URL, archive, f"sha256:{SHA256}")
    if (found := digest_of(archive)) != SHA256:
        raise DataError(
            f"{archive}: its SHA-256 is {found}, not {SHA256}; delete the file to download it again"
        )
    try:
        return _load(home, download_if_missing=True)
    except OSError as error:
        raise download_failed(URL, archive, one_line(error, 100)) from error


def _load(home: Path, download_if_missing: bool) -> tuple[Matrix, np.ndarray]:
    from sklearn.datasets import fetch_20newsgroups_vectorized

    try:
        x, target = fetch_20newsgroups_vectorized(
            subset="all",
            data_home=home,
            download_if_missing=download_if_missing,
            return_X_y=True,
            n_retries=1,
            delay=0.5,
        )
    except (
        ValueError,
        TypeError,
        EOFError,
        LookupError,
        AttributeError,
        zlib.error,
        pickle.UnpicklingError,
    ) as error:
        raise DataError(
            f"{home}: the vectorised copy of 20newsgroups is damaged ({one_line(error)}); "
            "delete 20newsgroup_vectorized_py3.pkl there, and it is made again"
        ) from error
    return x, target

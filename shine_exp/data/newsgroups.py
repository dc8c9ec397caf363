"""20 newsgroups, through scikit-learn's own cache."""

import os
import pickle
import zlib
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from filelock import FileLock
from sklearn.datasets import fetch_20newsgroups_vectorized, get_data_home

from shine_exp.data.dataset import Dataset, Scaling
from shine_exp.data.download import download_failed, fetch
from shine_exp.errors import DataError, one_line

URL = "https://ndownloader.figshare.com/files/5975967"


def newsgroups(scaling: Scaling, data_home: str | None = None) -> Dataset:
    """All posts as ℓ²-normalised term counts, 18 846 × 130 107, CSR; labels: target < 10 → −1, else +1 (section 4).

    `data_home` is scikit-learn's cache folder, by default its own choice (`SCIKIT_LEARN_DATA`). Raises `DataError`
    where the data is neither there nor can be downloaded, or where the copy is damaged.
    """
    try:
        home = Path(get_data_home(data_home))
    except OSError as error:
        raise DataError(f"scikit-learn's data folder is unusable ({one_line(error)}); set data.data_home") from error
    with _exclusive(home):
        try:
            x, target = _load(home, download_if_missing=False)
        except OSError:
            x, target = _download(home)
    return Dataset(sp.csr_matrix(x), np.where(target < 10, -1.0, 1.0), "20news", scaling)


def _exclusive(home: Path) -> AbstractContextManager[object]:
    """One process at a time fills the cache: scikit-learn's own writes are not atomic."""
    return FileLock(home / "20news.lock") if os.access(home, os.W_OK) else nullcontext()


def _download(home: Path) -> tuple[sp.csr_matrix, np.ndarray]:
    """Put the archive where scikit-learn looks for it, which then checks its SHA-256 and unpacks it."""
    archive = home / "20news_home" / "20news-bydate.tar.gz"
    fetch(URL, archive)
    try:
        return _load(home, download_if_missing=True)
    except OSError as error:
        raise download_failed(URL, archive, error) from error


def _load(home: Path, download_if_missing: bool) -> tuple[sp.csr_matrix, np.ndarray]:
    try:
        x, target = fetch_20newsgroups_vectorized(
            subset="all",
            data_home=home,
            download_if_missing=download_if_missing,
            return_X_y=True,
            n_retries=1,
            delay=0.5,
        )
    except (ValueError, EOFError, LookupError, zlib.error, pickle.UnpicklingError) as error:
        raise DataError(
            f"{home}: the vectorised copy of 20newsgroups is damaged ({one_line(error)}); "
            "delete 20newsgroup_vectorized_py3.pkl there, and it is made again"
        ) from error
    return x, target

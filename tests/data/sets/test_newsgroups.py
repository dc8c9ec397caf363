import hashlib
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.datasets import fetch_20newsgroups_vectorized, get_data_home
from web_server import Server

from shine_exp.data.sets import newsgroups as module
from shine_exp.data.sets.newsgroups import newsgroups
from shine_exp.data.splits import split
from shine_exp.errors import DataError


class FakeSklearn:
    """Stands in for `fetch_20newsgroups_vectorized`.

    It takes the archive as found, or fails as scikit-learn does.
    """

    def __init__(self, home: Path, failure: Exception | None = None) -> None:
        self.archive = home / "20news_home" / "20news-bydate.tar.gz"
        self.failure = failure

    def __call__(
        self, *, download_if_missing: bool, **_: object
    ) -> tuple[sp.csr_matrix, np.ndarray]:
        if self.failure:
            raise self.failure
        if not (download_if_missing and self.archive.exists()):
            raise OSError("20Newsgroups dataset not found")
        return sp.csr_matrix(np.eye(20)), np.arange(20)


def serve(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.content = b"archive"
    monkeypatch.setattr(module, "URL", server.url)
    monkeypatch.setattr(module, "SHA256", hashlib.sha256(server.content).hexdigest())


def refusal(home: Path) -> str:
    with pytest.raises(DataError) as caught:
        newsgroups("none", str(home))
    assert str(caught.value).isprintable(), "one line"
    return str(caught.value)


def test_labels_are_the_halves_of_the_twenty_groups(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(server, monkeypatch)
    monkeypatch.setattr("sklearn.datasets.fetch_20newsgroups_vectorized", FakeSklearn(tmp_path))
    data = newsgroups("variance", str(tmp_path))
    np.testing.assert_array_equal(data.y, [-1.0] * 10 + [1.0] * 10)
    assert data.scaling == "variance"
    assert len(server.requests) == 1
    assert (tmp_path / "20news_home" / "20news-bydate.tar.gz").read_bytes() == b"archive"


def test_default_home_is_scikit_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
    fake = FakeSklearn(tmp_path)
    fake.archive.parent.mkdir()
    fake.archive.touch()
    monkeypatch.setattr(module, "SHA256", hashlib.sha256(b"").hexdigest())
    monkeypatch.setattr("sklearn.datasets.fetch_20newsgroups_vectorized", fake)
    assert newsgroups("none").x.shape == (20, 20)


def test_failed_download_says_soon_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real scikit-learn finds nothing; the real downloader then meets a closed port."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(module, "URL", "http://127.0.0.1:1/archive")
    began = time.monotonic()
    message = refusal(tmp_path)
    assert time.monotonic() - began < 5
    archive = tmp_path / "20news_home" / "20news-bydate.tar.gz"
    assert message.startswith("cannot download http://127.0.0.1:1/archive (ConnectionError: ")
    assert f"put a copy at {archive}" in message
    assert message.endswith("such as data=breast_cancer, for a network data=digits_images")


def test_archive_that_scikit_learn_refuses_is_a_failed_download(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(server, monkeypatch)
    full = OSError("No space left\non device")
    monkeypatch.setattr(
        "sklearn.datasets.fetch_20newsgroups_vectorized", FakeSklearn(tmp_path, full)
    )
    assert "(OSError: No space left on device); put a copy at" in refusal(tmp_path)


def test_archive_with_another_checksum_never_reaches_scikit_learn(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(server, monkeypatch)
    monkeypatch.setattr("sklearn.datasets.fetch_20newsgroups_vectorized", FakeSklearn(tmp_path))
    server.content = b"<html>"
    archive = tmp_path / "20news_home" / "20news-bydate.tar.gz"
    assert refusal(tmp_path).startswith(
        f"cannot download {server.url} (what came has another checksum); put a copy at"
    )
    assert not archive.exists(), "the next run asks again"
    archive.write_bytes(b"<html>")
    found, right = (hashlib.sha256(content).hexdigest() for content in (b"<html>", b"archive"))
    assert refusal(tmp_path) == (
        f"{archive}: its SHA-256 is {found}, not {right}; delete the file to download it again"
    )


@pytest.mark.parametrize(
    "failure", [EOFError("ended early"), ValueError("older\nversion"), KeyError(5)]
)
def test_damaged_copy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    monkeypatch.setattr(
        "sklearn.datasets.fetch_20newsgroups_vectorized", FakeSklearn(tmp_path, failure)
    )
    message = refusal(tmp_path)
    assert message.startswith(
        f"{tmp_path}: the vectorised copy of 20newsgroups is damaged ({type(failure).__name__}"
    )
    assert "delete 20newsgroup_vectorized_py3.pkl there" in message


def test_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    assert refusal(tmp_path / "home").startswith(
        "scikit-learn's data folder is unusable (FileExistsError"
    )


def test_home_that_cannot_be_written_is_refused_where_scikit_learn_would_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_only = OSError("Read-only\nfile system")
    monkeypatch.setattr(
        "sklearn.datasets.fetch_20newsgroups_vectorized", FakeSklearn(tmp_path, read_only)
    )
    monkeypatch.setattr(module.os, "access", lambda *_: False)
    assert refusal(tmp_path) == (
        f"{tmp_path}: has no vectorised copy and cannot be written "
        "(OSError: Read-only file system); copy it to a folder of your own, and set data.data_home"
    )


def test_planted_link_in_place_of_the_lock_is_refused(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "20news.lock").symlink_to(precious)
    assert refusal(tmp_path).startswith(f"{tmp_path / '20news.lock'}: cannot be locked (OSError: ")
    assert precious.read_text() == "precious"


@pytest.fixture
def real_home() -> Path:
    home = Path(get_data_home())
    try:
        fetch_20newsgroups_vectorized(data_home=home, download_if_missing=False)
    except OSError:
        pytest.skip(f"20newsgroups is not in {home} (SCIKIT_LEARN_DATA)")
    return home


@pytest.mark.slow
def test_real_data(real_home: Path) -> None:
    data = newsgroups("none", str(real_home))
    assert data.x.shape == (18846, 130107)
    assert data.x.nnz == 2895521
    assert data.x.indices.dtype == np.int32
    np.testing.assert_allclose(data.x.power(2).sum(axis=1), 1.0)
    assert [(data.y == label).sum() for label in (-1, 1)] == [9645, 9201]
    parts = split(data, seed=0)
    assert [x.shape[0] for x, _ in (parts.train, parts.outer, parts.test)] == [16961, 943, 942]


@pytest.mark.slow
def test_real_vectorised_copy_that_is_cut_off_is_named(real_home: Path, tmp_path: Path) -> None:
    for file in real_home.glob("20news*.pk*"):
        shutil.copy(file, tmp_path)
    vectorised = tmp_path / "20newsgroup_vectorized_py3.pkl"
    vectorised.write_bytes(vectorised.read_bytes()[:100_000])
    assert "the vectorised copy of 20newsgroups is damaged" in refusal(tmp_path)

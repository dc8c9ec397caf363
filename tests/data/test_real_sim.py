import bz2
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from web_server import Server

from shine_exp.data import real_sim as module
from shine_exp.data.dataset import Dataset
from shine_exp.errors import DataError

ARCHIVE = bz2.compress(b"-1 1:0.6 3:0.8\n1 2:1\n1 3:1\n")
SUM = hashlib.sha256(ARCHIVE).hexdigest()
OTHER_SUM = hashlib.sha256(b"other").hexdigest()


@pytest.fixture(autouse=True)
def small_real_sim(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.content = ARCHIVE
    monkeypatch.setattr(module, "URL", server.url)
    monkeypatch.setattr(module, "SHAPE", (3, 3))


def load(cache: Path, sha256: str | None = None) -> Dataset:
    return module.real_sim(str(cache), "none", sha256)


def refusal(cache: Path, sha256: str | None = None) -> str:
    with pytest.raises(DataError) as caught:
        load(cache, sha256)
    assert str(caught.value).isprintable(), "one line"
    return str(caught.value)


def test_downloads_once(tmp_path: Path, server: Server) -> None:
    cache = tmp_path / "new" / "cache"
    first, again = load(cache), load(cache)
    assert len(server.requests) == 1
    np.testing.assert_array_equal(first.x.toarray(), [[0.6, 0, 0.8], [0, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(again.x.toarray(), first.x.toarray())
    np.testing.assert_array_equal(first.y, [-1, 1, 1])
    assert (cache / "real-sim.bz2").read_bytes() == ARCHIVE
    assert (cache / "real-sim.bz2.sha256").read_text() == f"{SUM}  real-sim.bz2\n"


def test_processes_that_start_together_download_once(tmp_path: Path, server: Server) -> None:
    with ThreadPoolExecutor() as pool:
        loaded = list(pool.map(load, [tmp_path] * 4))
    assert {data.x.shape for data in loaded} == {(3, 3)}
    assert len(server.requests) == 1


def test_cache_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    load(Path("~/cache"))
    assert (tmp_path / "cache" / "real-sim.bz2").exists()


def test_copy_put_there_by_hand_is_taken(tmp_path: Path, server: Server) -> None:
    (tmp_path / "real-sim.bz2").write_bytes(ARCHIVE)
    assert load(tmp_path).x.shape == (3, 3)
    assert not server.requests
    assert (tmp_path / "real-sim.bz2.sha256").read_text().startswith(SUM)


def test_change_after_the_first_download_is_refused(tmp_path: Path, server: Server) -> None:
    load(tmp_path)
    path = tmp_path / "real-sim.bz2"
    path.write_bytes(changed := bz2.compress(b"1 1:1\n-1 2:1\n1 3:1\n"))
    changed_sum = hashlib.sha256(changed).hexdigest()
    assert refusal(tmp_path) == (
        f"{path}: its SHA-256 is {changed_sum}, not {SUM} as real-sim.bz2.sha256 recorded; "
        "delete the file to download it again, or set data.sha256"
    )
    assert load(tmp_path, changed_sum).y[0] == 1, "either cure helps"
    path.unlink()
    assert load(tmp_path).y[0] == -1
    path.unlink()
    server.content = changed
    assert load(tmp_path).y[0] == 1, "a new download is recorded anew"


def test_pinned_checksum(tmp_path: Path) -> None:
    path = tmp_path / "real-sim.bz2"
    assert refusal(tmp_path, OTHER_SUM) == (
        f"{path}: its SHA-256 is {SUM}, not {OTHER_SUM} as data.sha256 says; "
        "delete the file to download it again, or correct data.sha256"
    )
    assert load(tmp_path, SUM.upper()).x.shape == (3, 3)
    assert not (tmp_path / "real-sim.bz2.sha256").exists()


def test_other_shape_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHAPE", (72309, 20958))
    assert refusal(tmp_path) == (
        f"{tmp_path / 'real-sim.bz2'}: is 3 × 3, but real-sim is 72309 × 20958; delete the file to download it again"
    )


@pytest.mark.parametrize("failure", ["not found", "cut off", "nobody listens"])
def test_failed_download_says_what_to_do_and_leaves_nothing(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    match failure:
        case "not found":
            server.content = None
        case "cut off":
            server.announced_length = 10 * len(ARCHIVE)
        case "nobody listens":
            monkeypatch.setattr(module, "URL", "http://127.0.0.1:1/data")
    path = tmp_path / "real-sim.bz2"
    message = refusal(tmp_path)
    assert message.startswith(f"cannot download {module.URL} (")
    assert f"put a copy at {path}" in message
    assert message.endswith("such as data=breast_cancer, for a network data=digits_images")
    assert [file.name for file in tmp_path.iterdir()] in ([], ["real-sim.bz2.lock"])


def test_cache_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    assert refusal(tmp_path / "cache").startswith("cannot download ")


def test_copy_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real-sim.bz2").mkdir()
    assert refusal(tmp_path).startswith(f"{tmp_path / 'real-sim.bz2'}: cannot be read (IsADirectoryError")


def test_checksum_that_cannot_be_recorded_can_be_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object) -> None:
        raise OSError("Read-only file system")

    (tmp_path / "real-sim.bz2").write_bytes(ARCHIVE)
    monkeypatch.setattr("shine_exp.data.download.os.replace", read_only)
    assert refusal(tmp_path).endswith(f"cannot be written (OSError: Read-only file system); set data.sha256={SUM}")
    load(tmp_path, SUM)

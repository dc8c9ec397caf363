import bz2
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from web_server import Server

from shine_exp.data.dataset import Dataset
from shine_exp.data.sets import real_sim as module
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
    (tmp_path / "real-sim.bz2").write_bytes(ARCHIVE)
    assert refusal(tmp_path) == (
        f"{tmp_path / 'real-sim.bz2'}: is 3 × 3, but real-sim is 72309 × 20958; "
        "delete the file to download it again"
    )
    assert [file.name for file in tmp_path.iterdir()] == ["real-sim.bz2"], "no checksum"


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


def test_folder_in_place_of_the_copy_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real-sim.bz2").mkdir()
    assert refusal(tmp_path).startswith(
        f"{tmp_path / 'real-sim.bz2'}: is a folder, where the file of {module.URL} bel"
    )


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (
            b"<html>502 Bad Gateway</html>",
            "cannot be read, or is damaged (OSError: Invalid data stream)",
        ),
        (
            ARCHIVE[:-9],
            "cannot be read, or is damaged "
            "(EOFError: Compressed file ended before the end-of-stream mark",
        ),
        (bz2.compress(b"<html>"), "line 1: the label '<html>' is not a number"),
        (bz2.compress(b"1 1:1\n-1 2:1\n"), "is 2 × 2, but real-sim is 3 × 3"),
    ],
    ids=["page", "cut off", "packed page", "other data"],
)
def test_download_of_something_else_is_neither_kept_nor_recorded(
    tmp_path: Path, server: Server, content: bytes, fault: str
) -> None:
    server.content = content
    path = tmp_path / "real-sim.bz2"
    message = refusal(tmp_path)
    assert message.startswith(f"cannot download {module.URL} (what came {fault}"), message
    assert f"put a copy at {path}" in message
    assert not path.exists()
    assert not (tmp_path / "real-sim.bz2.sha256").exists()
    server.content = ARCHIVE
    assert load(tmp_path).x.shape == (3, 3), "the next run asks again"


def test_copy_of_something_else_stays_and_is_not_recorded(tmp_path: Path, server: Server) -> None:
    path = tmp_path / "real-sim.bz2"
    path.write_bytes(b"<html>502 Bad Gateway</html>")
    assert refusal(tmp_path).startswith(f"{path}: cannot be read, or is damaged")
    assert [file.name for file in tmp_path.iterdir()] == ["real-sim.bz2"]
    assert not server.requests


def test_planted_link_in_place_of_the_checksum_is_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    (tmp_path / "real-sim.bz2").write_bytes(ARCHIVE)
    (tmp_path / "real-sim.bz2.sha256").symlink_to(precious)
    load(tmp_path)
    assert not precious.exists()
    assert (tmp_path / "real-sim.bz2.sha256").read_text() == f"{SUM}  real-sim.bz2\n"


def test_checksum_that_cannot_be_recorded_can_be_pinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> None:
        raise OSError("Read-only file system")

    (tmp_path / "real-sim.bz2").write_bytes(ARCHIVE)
    monkeypatch.setattr("shine_exp.data.io.files.os.replace", read_only)
    assert refusal(tmp_path).endswith(
        f"cannot be written (OSError: Read-only file system); set data.sha256={SUM}"
    )
    load(tmp_path, SUM)

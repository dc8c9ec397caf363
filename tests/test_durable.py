"""Files replaced in one step, in the order that makes them last."""

import errno
import os
import stat
from pathlib import Path

import pytest

from shine_exp import durable


def is_folder(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def test_write_replaces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"one", b"", b"\x00three"):
        durable.write(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_write_syncs_content_then_renames_then_syncs_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []

    def fsync(descriptor: int, inner=os.fsync) -> None:
        done.append("sync folder" if is_folder(descriptor) else "sync file")
        inner(descriptor)

    def rename(source: Path, target: Path, inner=os.replace) -> None:
        assert Path(source).read_bytes() == b"content"
        done.append("rename")
        inner(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    durable.write(tmp_path / "file", b"content")
    assert done == ["sync file", "rename", "sync folder"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="No space"):
        durable.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_that_cannot_be_synced_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(descriptor: int, inner=os.fsync) -> None:
        if is_folder(descriptor):
            raise OSError(errno.EINVAL, "Invalid argument")
        inner(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    durable.write(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"


def test_link_under_the_temporary_name_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    monkeypatch.setattr(durable.secrets, "token_hex", lambda n: "foreseen")
    (tmp_path / ".file.foreseen.tmp").symlink_to(victim)
    with pytest.raises(FileExistsError):
        durable.write(tmp_path / "file", b"content")
    assert victim.read_bytes() == b"precious"


def test_link_under_the_final_name_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "file").symlink_to(victim)
    durable.write(tmp_path / "file", b"content")
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "file").is_symlink()


def test_read_refuses_links_folders_and_pipes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    assert durable.read(tmp_path / "file") == b"content"
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    for name in ("link", "folder", "nothing"):
        with pytest.raises(OSError, match=name if name != "folder" else "directory"):
            durable.read(tmp_path / name)


def test_append_goes_on_after_a_part(tmp_path: Path) -> None:
    class Slow:
        """Takes three bytes at a time."""

        taken = b""

        def write(self, content: memoryview) -> int:
            self.taken += bytes(content[:3])
            return len(content[:3])

    file = Slow()
    durable.append(file, b"more than three bytes")
    assert file.taken == b"more than three bytes"


def test_clear_removes_temporaries_and_nothing_else(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    for name in (".run.json.0123.tmp", "trace.tmp", "trace.csv", ".lock"):
        (tmp_path / name).touch()
    (tmp_path / "checkpoint.pt.tmp").symlink_to(victim)
    (tmp_path / "folder.tmp").mkdir()
    durable.clear(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".lock",
        "folder.tmp",
        "trace.csv",
        "victim",
    ]
    assert victim.read_bytes() == b"precious"

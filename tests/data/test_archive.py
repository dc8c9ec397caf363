from pathlib import Path

import pytest
from image_files import COMPRESS, FILES, in_tar

from shine_exp.data.archive import tar_files, tar_names
from shine_exp.errors import DataError


def refusal(path: Path) -> str:
    """One and the same, whether the names or the files are read."""
    messages = []
    for read in (tar_names, lambda path: list(tar_files(path, lambda _: True, 1 << 20))):
        with pytest.raises(DataError) as caught:
            read(path)
        messages.append(str(caught.value))
    assert all(message.startswith(f"{path}: ") and message.isprintable() for message in messages)
    return messages[-1].removeprefix(f"{path}: ")


def test_only_files_that_are_wanted_are_read(tmp_path: Path) -> None:
    path = in_tar(tmp_path / "mine.tar.gz")
    parts = {tuple(name.split("/")): content for name, content in FILES.items()}
    assert tar_names(path) == list(parts)
    some = dict(tar_files(path, lambda name: name[0] == "test", 1 << 20))
    assert some == {name: content for name, content in parts.items() if name[0] == "test"}
    largest = max(map(len, FILES.values()))
    assert dict(tar_files(path, lambda _: True, largest)) == parts
    with pytest.raises(DataError, match=f"has {largest} bytes, more than {largest - 1}; take it out$"):
        list(tar_files(path, lambda _: True, largest - 1))


@pytest.mark.parametrize("kind", COMPRESS)
def test_archive_cut_off_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    path = in_tar(tmp_path / f"mine.{kind}")
    whole = path.read_bytes()
    end = len(whole) if kind != "tar" else len(whole.rstrip(b"\0")) + 512
    for length in {0, 5, *range(512, end, 512), end - 1}:
        path.write_bytes(whole[:length])
        assert refusal(path).startswith("cannot be read as a tar archive (plain, .gz, .xz or .bz2), or is damaged (")


@pytest.mark.parametrize("kind", ["tar.gz", "tar.xz", "tar.bz2"])
def test_flipped_bit_in_a_compressed_archive_is_refused(tmp_path: Path, kind: str) -> None:
    path = in_tar(tmp_path / f"mine.{kind}")
    whole = path.read_bytes()
    for position in range(len(whole) // 20, len(whole), len(whole) // 10):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 16]) + whole[position + 1 :])
        assert refusal(path).startswith("cannot be read as a tar archive")


def test_broken_header_is_refused(tmp_path: Path) -> None:
    path = in_tar(tmp_path / "mine.tar")
    whole = bytearray(path.read_bytes())
    third = whole.index(b"train/", 1100)
    whole[third] ^= 1
    path.write_bytes(bytes(whole))
    assert "a broken header" in refusal(path)


def test_other_files_are_no_archives(tmp_path: Path) -> None:
    for content in (b"PK\3\4" + bytes(2000), b"text\n" * 500, bytes(300)):
        (tmp_path / "file").write_bytes(content)
        assert "cannot be read as a tar archive" in refusal(tmp_path / "file")

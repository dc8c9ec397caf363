import tarfile
from pathlib import Path

import pytest
from image_files import COMPRESS, FILES, in_tar, tar_bytes

from shine_exp.data.io import compressed
from shine_exp.data.io.archive import tar_files, tar_names
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
    with pytest.raises(
        DataError, match=f"has {largest} bytes, more than {largest - 1}; take it out$"
    ):
        list(tar_files(path, lambda _: True, largest - 1))


@pytest.mark.parametrize("kind", COMPRESS)
def test_archive_cut_off_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    path = in_tar(tmp_path / f"mine.{kind}")
    whole = path.read_bytes()
    end = len(whole) if kind != "tar" else len(whole.rstrip(b"\0")) + 512
    for length in {0, 5, *range(512, end, 512), end - 1}:
        path.write_bytes(whole[:length])
        assert refusal(path).startswith(
            "cannot be read as a tar archive (plain, .gz, .xz or .bz2), or is damaged ("
        )


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


def header(kind: bytes, size: int, name: str = "x") -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.USTAR_FORMAT)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


KINDS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_header_of_a_member_is_refused_before_it_is_read(
    tmp_path: Path, kind: bytes, suffix: str
) -> None:
    path = tmp_path / f"mine.{suffix}"
    path.write_bytes(COMPRESS[suffix](header(kind, 1 << 32) + bytes(4096)))
    assert "(ReadError: a header of 4294967296 bytes); take a fresh copy" in refusal(path)


def test_long_names_and_attributes_are_read(tmp_path: Path) -> None:
    name = "/".join(["train", "ant", "n" * 200, "m" * 200 + ".png"])
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        path = tmp_path / "mine.tar"
        with tarfile.open(path, "w", format=form, pax_headers={"comment": "of all"}) as tar:
            member = tarfile.TarInfo(name)
            member.pax_headers = {"SCHILY.xattr.user.note": "x" * 60_000}
            tar.addfile(member)
        assert tar_names(path) == [tuple(name.split("/"))]


def test_many_global_attributes_are_refused(tmp_path: Path) -> None:
    def attributes(k: int) -> bytes:
        records = b"".join(b"%d k%06d=x\n" % (13, 1000 * k + i) for i in range(1000))
        return header(tarfile.XGLTYPE, len(records)) + padded(records)

    (tmp_path / "mine.tar").write_bytes(b"".join(map(attributes, range(3))) + tar_bytes(FILES))
    assert "(ReadError: more than 16 global attributes)" in refusal(tmp_path / "mine.tar")


def test_endless_chain_of_headers_is_refused(tmp_path: Path) -> None:
    one = header(tarfile.XHDTYPE, 12) + padded(b"12 path=abc\n")
    (tmp_path / "mine.tar").write_bytes(one * 5000 + tar_bytes(FILES))
    assert "(RecursionError: " in refusal(tmp_path / "mine.tar")


def test_sparse_files_are_refused(tmp_path: Path) -> None:
    old = header(tarfile.GNUTYPE_SPARSE, 0)
    records = b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
    new = (
        header(tarfile.XHDTYPE, len(records))
        + padded(records)
        + header(tarfile.REGTYPE, 1024)
        + bytes(1024)
    )
    for content in (old, new):
        (tmp_path / "mine.tar").write_bytes(content + tar_bytes(FILES))
        assert "(ReadError: a sparse file)" in refusal(tmp_path / "mine.tar")


@pytest.mark.parametrize("kind", ["tar.gz", "tar.xz", "tar.bz2"])
def test_archive_that_unpacks_to_no_end_is_refused(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compressed, "ALWAYS_ALLOWED", 1 << 16)
    path = tmp_path / f"mine.{kind}"
    path.write_bytes(COMPRESS[kind](tar_bytes(FILES) + bytes(1 << 21)))
    assert refusal(path).startswith("unpacks to more than ")

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from image_files import FILES, Files, colours, encoded, in_folder, in_tar, is_the_data
from PIL import Image

from shine_exp.data.io import archive
from shine_exp.data.sets.image_folder import image_folder
from shine_exp.errors import DataError


@pytest.fixture
def refusal(tmp_path: Path) -> Callable[[Path], str]:
    def of(path: Path) -> str:
        with pytest.raises(DataError) as caught:
            image_folder(str(path), str(tmp_path / "cache"), None, None, 0)
        message = str(caught.value)
        assert message.startswith(f"{path}: ")
        assert message.isprintable(), "one line"
        return message.removeprefix(f"{path}: ")

    return of


def without(split: str, label: str) -> Files:
    return {
        name: content for name, content in FILES.items() if not name.startswith(f"{split}/{label}")
    }


@pytest.mark.parametrize("source", ["mine", "mine.tar.xz"])
@pytest.mark.parametrize(
    ("files", "fault"),
    [
        (
            without("train", ""),
            "has no images in train/; expected are train/<class>/<image> and test/<class>/<image>",
        ),
        (without("test", ""), "has no images in test/; expected are"),
        ({"a/b/c.png": b""}, "has no images in train/; expected are"),
        (without("train", "bee"), "test/bee is a class without images in train/; expected are"),
        (without("test", "bee"), "train/bee is a class without images in test/; expected are"),
        (FILES | {"test/d\nog/1.png": b""}, r"test/d\nog is a class without images in train/"),
        (
            FILES | {"test/bee/1.png": b"noise"},
            "test/bee/1.png is no image that can be taken (ValueError: it is none of PNG,",
        ),
        (
            FILES | {"train/bee/1.png": FILES["train/bee/1.png"][:-30]},
            "train/bee/1.png is no image that can be taken",
        ),
        (FILES | {"test/bee/1.png": b""}, "test/bee/1.png is no image that can be taken"),
        (
            FILES | {"test/bee/1.png": encoded(colours(0, 5, 3))},
            ".png 5 × 3 and test/bee/1.png 3 × 5; resize them",
        ),
        (
            FILES | {"test/bee/1.png": encoded(np.ones((3, 5), np.uint16))},
            "it has more than 8 bits a channel",
        ),
        (
            FILES | {"test/bee/1.png": encoded(np.ones((3, 5), np.float32), "tiff")},
            "it has more than 8 bits a channel",
        ),
        (
            FILES | {"test/bee/1.png": encoded(colours(0), "eps")},
            "it is none of PNG, JPEG, BMP, GIF, WEBP, TIFF, PPM, or is damaged",
        ),
        (
            {name: content for name, content in FILES.items() if "/ant/" in name},
            "needs images of two or more classes, but has 1",
        ),
    ],
)
def test_what_is_no_data_set_is_refused(
    tmp_path: Path, refusal: Callable[[Path], str], source: str, files: Files, fault: str
) -> None:
    ordered = dict(sorted(files.items(), key=lambda item: item[0].replace("test/", "zest/")))
    make = in_folder if source == "mine" else in_tar
    assert fault in refusal(make(tmp_path / source, ordered))
    assert not any(path.is_dir() for path in (tmp_path / "cache").glob("*"))


@pytest.mark.parametrize(
    "name", ["/train/ant/a.png", "../train/ant/b.png", "train/../train/ant/c.png"]
)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.SYMTYPE])
def test_names_that_lead_out_of_an_archive_are_refused(
    tmp_path: Path, refusal: Callable[[Path], str], name: str, kind: bytes
) -> None:
    member = tarfile.TarInfo(name)
    member.type = kind
    assert "leads out of the archive" in refusal(in_tar(tmp_path / "mine.tar.xz", more=[member]))
    assert {path.name for path in tmp_path.iterdir()} <= {"mine.tar.xz", "cache"}


@pytest.mark.parametrize(
    ("kind", "target"), [(tarfile.SYMTYPE, "/etc/hostname"), (tarfile.LNKTYPE, "train/ant/1.png")]
)
def test_links_in_an_archive_are_refused(
    tmp_path: Path, refusal: Callable[[Path], str], kind: bytes, target: str
) -> None:
    member = tarfile.TarInfo("train/ant/3.png")
    member.type, member.linkname = kind, target
    assert "'train/ant/3.png' is a link, which is not followed" in refusal(
        in_tar(tmp_path / "mine.tar", more=[member])
    )


def test_several_leading_folders_are_refused(
    tmp_path: Path, refusal: Callable[[Path], str]
) -> None:
    files = {f"{root}/{name}": content for root in ("b", "a") for name, content in FILES.items()}
    assert refusal(in_tar(tmp_path / "mine.tar", files)).startswith(
        "has several leading folders, a and b; expected"
    )


def test_decompression_bombs_are_refused(
    tmp_path: Path, refusal: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = in_folder(tmp_path / "mine")
    for most, fault in ((14, "DecompressionBombWarning"), (7, "DecompressionBombError")):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        assert f"test/Cat/10.png is no image that can be taken ({fault}" in refusal(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 15)
    is_the_data(image_folder(str(path), str(tmp_path / "cache"), None, None, 0))


def test_too_large_a_file_is_refused(
    tmp_path: Path, refusal: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shine_exp.data.sets.image_folder.LARGEST_FILE", 50)
    assert refusal(in_tar(tmp_path / "mine.tar")).endswith("bytes, more than 50; take it out")


def test_path_that_leads_to_nothing_is_refused(
    tmp_path: Path, refusal: Callable[[Path], str]
) -> None:
    assert refusal(tmp_path / "absent").startswith(
        "no such folder or file; data.path takes a folder of images or"
    )
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe").startswith("no such folder or file")


def test_archive_that_loses_an_image_while_it_is_read_is_refused(
    tmp_path: Path, refusal: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = in_tar(tmp_path / "mine.tar")
    names = archive.tar_names(path)

    def then_changed(_: Path) -> list[archive.Name]:
        in_tar(path, without("train", "ant/1."))
        return names

    monkeypatch.setattr("shine_exp.data.sets.image_folder.tar_names", then_changed)
    assert refusal(path) == "changed while it was read; run again"


def test_folder_that_loses_an_image_while_it_is_read_is_refused(
    tmp_path: Path, refusal: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(path: Path) -> bytes:
        raise FileNotFoundError(path.name)

    folder = in_folder(tmp_path / "mine")
    monkeypatch.setattr(Path, "read_bytes", gone)
    assert refusal(folder).startswith("test/Cat/10.png cannot be read (FileNotFoundError")

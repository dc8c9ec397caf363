from pathlib import Path, PurePosixPath

import pytest
from image_files import FILES, IMAGES, colours, encoded, in_folder, in_tar, is_the_data

from shine_exp.data.io.archive import tar_names
from shine_exp.data.io.image_names import Name, names_in_archive, names_in_folder
from shine_exp.data.sets.image_folder import image_folder
from shine_exp.errors import DataError

DEEP = {
    "train/ant/sub/9.png": encoded(colours(98)),
    "train/ant/sub/deeper/1.png": encoded(colours(99)),
}


def parts(*names: str) -> list[Name]:
    return [PurePosixPath(name).parts for name in names]


@pytest.mark.parametrize("source", ["mine", "mine.tar", "mine.tar.xz", "rooted.tar"])
def test_images_at_any_depth_are_read(tmp_path: Path, source: str) -> None:
    if source == "mine":
        path = in_folder(tmp_path / source, FILES | DEEP)
    else:
        path = in_tar(
            tmp_path / source, FILES | DEEP, root="root/" if source == "rooted.tar" else ""
        )
    images = image_folder(str(path), str(tmp_path / "cache"), None, None, 0)
    names = sorted(PurePosixPath(name).parts for name in (FILES | DEEP) if name.startswith("train"))
    assert len(images.train.labels) == len(names) == 14
    for name, seed in (("train/ant/sub/9.png", 98), ("train/ant/sub/deeper/1.png", 99)):
        index = names.index(PurePosixPath(name).parts)
        assert (images.train.pixels[index].numpy() == colours(seed).transpose(2, 0, 1)).all()
        assert images.train.labels[index] == 1, "ant"


@pytest.mark.parametrize("source", ["mine", "mine.tar", "rooted.tar"])
def test_image_without_a_class_is_refused(tmp_path: Path, source: str) -> None:
    for stray in ("train/9.png", "test/9.JPG", "train/x.webp"):
        files = FILES | {stray: b""}
        path = (
            in_folder(tmp_path / source, files)
            if source == "mine"
            else in_tar(tmp_path / source, files, "root/")
        )
        with pytest.raises(
            DataError,
            match=rf"^{path}: {stray} lies in no class; expected are train/<class>/<image>",
        ):
            image_folder(str(path), str(tmp_path / "cache"), None, None, 0)
        if source == "mine":
            (path / stray).unlink()


@pytest.mark.parametrize(
    ("names", "root", "images"),
    [
        (["train/a/1", "test/a/1"], "", ["test/a/1", "train/a/1"]),
        (["r/train/a/1", "r/test/a/1"], "r", ["test/a/1", "train/a/1"]),
        (["train/train/a/1", "train/test/a/1"], "train", ["test/a/1", "train/a/1"]),
        (["train/train/1", "test/train/1"], "", ["test/train/1", "train/train/1"]),
        (["train/a/b/c/1", "test/a/1"], "", ["test/a/1", "train/a/b/c/1"]),
        (["train/a/1", "test/a/1", "other/train/a/1"], "", ["test/a/1", "train/a/1"]),
        (["r/train/a/1", "r/test/a/1", "s/README"], "r", ["test/a/1", "train/a/1"]),
        (["r/train/a/1"], "r", ["train/a/1"]),
        (["train/a/1", "r/train/a/1"], "", ["train/a/1"]),
        (["train/a/.1", ".r/train/a/1", "train/.a/1"], "", []),
        ([], "", []),
    ],
)
def test_root_of_an_archive(names: list[str], root: str, images: list[str]) -> None:
    assert names_in_archive(Path("x"), parts(*names)) == (PurePosixPath(root).parts, parts(*images))


def test_links_in_a_folder_are_followed(tmp_path: Path) -> None:
    real = in_folder(tmp_path / "real")
    (tmp_path / "mine" / "train").mkdir(parents=True)
    (tmp_path / "mine" / "test").symlink_to(real / "test")
    for label in ("ant", "bee"):
        (tmp_path / "mine" / "train" / label).symlink_to(real / "train" / label)
    (tmp_path / "mine" / "train" / "Cat").mkdir()
    for image in (real / "train" / "Cat").iterdir():
        (tmp_path / "mine" / "train" / "Cat" / image.name).symlink_to(image)
    assert names_in_folder(tmp_path / "mine") == sorted(parts(*IMAGES))
    is_the_data(image_folder(str(tmp_path / "mine"), str(tmp_path / "cache"), None, None, 0))


def test_link_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    folder = in_folder(tmp_path / "mine")
    (folder / "train" / "ant" / "7.png").symlink_to("absent")
    with pytest.raises(
        DataError,
        match=r"train/ant/7.png is a link that leads to no file; mend it, or take it out$",
    ):
        names_in_folder(folder)


def test_link_that_leads_back_is_refused(tmp_path: Path) -> None:
    folder = in_folder(tmp_path / "mine")
    (folder / "train" / "ant" / "back").symlink_to(folder / "train")
    with pytest.raises(
        DataError,
        match=r"train/ant/back is a link that leads back to a folder above it; take it out$",
    ):
        names_in_folder(folder)


def test_archive_and_folder_agree_on_the_names(tmp_path: Path) -> None:
    noise = dict.fromkeys(
        ("README", "train/list.txt", "train/ant/.x", "train/.y/1.png", "v/ant/1.png"), b""
    )
    files = FILES | DEEP | noise
    archive = in_tar(tmp_path / "mine.tar", files, "root/")
    _, names = names_in_archive(archive, tar_names(archive))
    assert (
        names
        == names_in_folder(in_folder(tmp_path / "mine", files))
        == sorted(parts(*FILES, *DEEP))
    )

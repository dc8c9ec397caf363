"""Which files of a folder, or of an archive of one, are images of a class.

    train/<class>/…    test/<class>/…

The first folder below a split is the class, however deep its images lie. Hidden files and folders
are left out, as is what lies outside the two splits, or beside the classes and is no image by its
name.
"""

import mimetypes
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from shine_exp.errors import DataError, one_line

SPLITS = ("train", "test")
LAYOUT = "expected are train/<class>/<image> and test/<class>/<image>"

Name = tuple[str, ...]  # the parts of a relative path


def names_in_folder(source: Path) -> list[Name]:
    """The images of a folder, sorted; links are followed.

    Raises `DataError` where a folder cannot be read, a link leads nowhere or back, or an image has
    no class.
    """
    try:
        files = [name for split in SPLITS for name in _walk(source, (split,), frozenset())]
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({one_line(error)})") from error
    return sorted(_of_a_class(source, files))


def names_in_archive(source: Path, files: Iterable[Name]) -> tuple[Name, list[Name]]:
    """The leading folder of an archive, or (), and the images in it, sorted.

    Raises `DataError` where there are several leading folders, or an image has no class.
    """
    visible = {name for name in files if not _is_hidden(name)}
    root = _root(source, visible)
    below = (name[len(root) :] for name in visible if name[: len(root)] == root)
    return root, sorted(_of_a_class(source, below))


def shown(name: Name) -> str:
    """A name for a message: in one line, whatever its characters."""
    return repr("/".join(name))[1:-1]


def _walk(source: Path, folder: Name, above: frozenset[tuple[int, int]]) -> Iterator[Name]:
    path = source.joinpath(*folder)
    if len(folder) == 1 and not path.is_dir():
        return  # a split that is missing is refused with the images in hand
    here = path.stat()
    identity = (here.st_dev, here.st_ino)
    if identity in above:
        fault = "is a link that leads back to a folder above it"
        raise DataError(f"{source}: {shown(folder)} {fault}; take it out")
    with os.scandir(path) as entries:
        for entry in entries:
            name = (*folder, entry.name)
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _walk(source, name, above | {identity})
            elif entry.is_file():
                yield name
            elif entry.is_symlink():
                fault = "is a link that leads to no file"
                raise DataError(f"{source}: {shown(name)} {fault}; mend it, or take it out")


def _root(source: Path, names: Iterable[Name]) -> Name:
    """The folder that holds both splits: the top one, else the one leading folder."""
    splits: dict[Name, set[str]] = defaultdict(set)
    for name in names:
        for depth in (0, 1):
            if len(name) >= depth + 3 and name[depth] in SPLITS:
                splits[name[:depth]].add(name[depth])
    top = splits.pop((), set())
    leading = sorted(splits)
    if len(top) == 2 or not leading:
        return ()
    if len(leading) == 1 and (not top or len(splits[leading[0]]) == 2):
        return leading[0]
    if top:
        return ()
    first, second = map(shown, leading[:2])
    raise DataError(f"{source}: has several leading folders, {first} and {second}; {LAYOUT}")


def _of_a_class(source: Path, names: Iterable[Name]) -> Iterator[Name]:
    for name in names:
        if name[0] not in SPLITS:
            continue
        if len(name) > 2:
            yield name
        elif _is_image(name[-1]):
            raise DataError(f"{source}: {shown(name)} lies in no class; {LAYOUT}")


def _is_hidden(name: Name) -> bool:
    return any(part.startswith(".") for part in name)


def _is_image(file: str) -> bool:
    kind, _ = _KINDS.guess_type(file, strict=False)
    return (kind or "").startswith("image/")


_KINDS = mimetypes.MimeTypes()  # without what this machine adds to them

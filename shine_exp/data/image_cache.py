"""Image data sets that are decoded once, into memory-mapped files.

`<cache>/<name>-<key>/` holds `train_pixels.npy`, `train_labels.npy`, `test_pixels.npy`,
`test_labels.npy` and `images.json`, which has the digests of both sets and the stamps of the files
that they were taken of: as long as those stay, nothing is hashed again. The folder appears by a
rename when it is whole. One that was changed later is refused.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from tqdm import tqdm

from shine_exp import durable
from shine_exp.data.images import Images, LabelledImages
from shine_exp.data.io.digest import stamp_of
from shine_exp.data.io.image_names import SPLITS
from shine_exp.errors import DataError, one_line

FORMAT = 2  # of the cache: another number, and everything is decoded anew


class Record(NamedTuple):
    """An image (channels, height, width), uint8, and its place, `position`, in `split`."""

    split: str
    position: int
    label: int
    pixels: np.ndarray


@dataclass(frozen=True)
class Decoding:
    """What is to be stored: `sizes` of the two splits, and their images in any order.

    There is at least one image, and all have one shape.
    """

    classes: tuple[str, ...]
    sizes: dict[str, int]
    records: Iterable[Record]


def cached(cache: Path, name: str, identity: object, decode: Callable[[], Decoding]) -> Images:
    """The images that `decode` gives, as memory maps.

    It is called where the cache has none of this `identity` (JSON). `name` is a word or a path.
    One process at a time decodes. Raises `DataError` as `decode` and `Images` do, and where the
    cache cannot be written or is damaged.
    """
    key = hashlib.sha256(json.dumps([FORMAT, identity]).encode()).hexdigest()[:16]
    folder = cache / f"{Path(name).name}-{key}"
    if not folder.exists():
        try:
            _make(folder, name, key, decode)
        except OSError as error:
            raise DataError(
                f"{folder}: cannot be written ({one_line(error)}); set data.cache"
            ) from error
    try:
        return _load(folder, name, key)
    except (OSError, EOFError, ValueError, TypeError, LookupError, DataError) as error:
        raise DataError(
            f"{folder}: this cache is damaged ({one_line(error)}); "
            "delete the folder, and it is made again"
        ) from error


def _make(folder: Path, name: str, key: str, decode: Callable[[], Decoding]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if folder.exists():
            return
        partial = folder.with_name(f".{folder.name}.partial")
        if partial.is_symlink() or partial.is_file():
            partial.unlink()  # whoever put it there: it is not followed
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        partial.mkdir()
        try:
            decoding = decode()
            _write(partial, name, decoding)
            _describe(partial, name, key, decoding.classes)
            os.replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _write(folder: Path, name: str, decoding: Decoding) -> None:
    labels = {split: np.full(n, -1, dtype=np.int64) for split, n in decoding.sizes.items()}
    records = iter(decoding.records)
    first = next(records)
    n_bytes = first.pixels.nbytes
    _require_space(folder, n_bytes * sum(decoding.sizes.values()))
    with ExitStack() as stack:
        files = {
            split: stack.enter_context((folder / f"{split}_pixels.npy").open("wb"))
            for split in SPLITS
        }
        starts = {}
        # Not through a memory map: on a full disk, writing to one kills the process.
        for split, file in files.items():
            shape = (decoding.sizes[split], *first.pixels.shape)
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            starts[split] = file.tell()
        bar = tqdm(
            chain([first], records),
            desc=f"decoding {Path(name).name}",
            total=sum(decoding.sizes.values()),
            unit="image",
            disable=None,
        )
        for split, position, label, pixels in bar:
            files[split].seek(starts[split] + position * n_bytes)
            files[split].write(pixels.tobytes())
            labels[split][position] = label
    missing = sum(int((of_split == -1).sum()) for of_split in labels.values())
    if missing:
        raise DataError(
            f"{name}: {missing} of its images were not found again; "
            "it changed while it was read: run again"
        )
    for split in SPLITS:
        np.save(folder / f"{split}_labels.npy", labels[split])


def _require_space(folder: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise DataError(
            f"{folder.parent}: the decoded images take {n_bytes / 1e9:.1f} GB, "
            f"but {free / 1e9:.1f} GB are free; set data.cache, or make the images smaller"
        )


def _describe(folder: Path, name: str, key: str, classes: tuple[str, ...]) -> None:
    """Write images.json. Raises `DataError` where the files make no data set."""
    images = _mapped(folder, len(classes), name)
    facts = {
        "format": FORMAT,
        "key": key,
        "source": name,
        "classes": classes,
        "digests": {"train": images.train.digest, "test": images.test.digest},
        "stamps": _stamps(folder),
    }
    durable.write(folder / "images.json", _written(facts))


def _written(facts: dict[str, Any]) -> bytes:
    return (json.dumps(facts, indent=1) + "\n").encode()


def _load(folder: Path, name: str, key: str) -> Images:
    facts = json.loads((folder / "images.json").read_text())
    if facts["key"] != key:
        raise ValueError(f"images.json has the key {facts['key']}")
    images = _mapped(folder, len(facts["classes"]), name)
    digests = facts["digests"]
    if facts["stamps"] != _stamps(folder):
        if digests != {"train": images.train.digest, "test": images.test.digest}:
            raise ValueError("its images are not those that were decoded")
        with suppress(OSError):  # a copy of the cache, say: it is hashed once
            durable.write(folder / "images.json", _written(facts | {"stamps": _stamps(folder)}))
    train = replace(images.train, known_digest=str(digests["train"]))
    test = replace(images.test, known_digest=str(digests["test"]))
    return replace(images, train=train, test=test)


def _stamps(folder: Path) -> dict[str, list[int]]:
    return {file.name: list(stamp_of(file)) for files in _files(folder) for file in files}


def _mapped(folder: Path, n_classes: int, name: str) -> Images:
    train, test = (LabelledImages(_map(pixels), _map(labels)) for pixels, labels in _files(folder))
    return Images(train, test, n_classes, name)


def _files(folder: Path) -> list[tuple[Path, Path]]:
    return [(folder / f"{split}_pixels.npy", folder / f"{split}_labels.npy") for split in SPLITS]


def _map(file: Path) -> Tensor:
    """Copy on write: pages are read when they are used, and changes stay in memory."""
    return torch.from_numpy(np.load(file, mmap_mode="c", allow_pickle=False))

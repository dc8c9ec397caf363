"""Image data sets that are decoded once, into memory-mapped files.

`<cache>/<name>-<key>/` holds `train_pixels.npy`, `train_labels.npy`, `test_pixels.npy`, `test_labels.npy` and
`images.json`. It appears by a rename when it is whole. A folder that was damaged later is refused, never mended.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from tqdm import tqdm

from shine_exp.data.images import Images, LabelledImages
from shine_exp.errors import DataError, one_line

FORMAT = 1  # of the cache: another number, and everything is decoded anew
SPLITS = ("train", "test")


class Record(NamedTuple):
    """An image (channels, height, width), uint8, and its place, `position`, in `split`."""

    split: str
    position: int
    label: int
    pixels: np.ndarray


@dataclass(frozen=True)
class Decoding:
    """What is to be stored: `sizes` of the two splits, and their images of one shape, at least one, in any order."""

    classes: tuple[str, ...]
    sizes: dict[str, int]
    records: Iterable[Record]


def cached(cache: Path, name: str, identity: object, decode: Callable[[], Decoding]) -> Images:
    """The images that `decode` gives, as memory maps; it is called where the cache has none of this `identity` (JSON).

    `name` is a word or a path. One process at a time decodes. Raises `DataError` as `decode` and `Images` do, and where
    the cache cannot be written or is damaged.
    """
    key = hashlib.sha256(json.dumps([FORMAT, identity]).encode()).hexdigest()[:16]
    folder = cache / f"{Path(name).name}-{key}"
    if not folder.exists():
        try:
            _make(folder, name, key, decode)
        except OSError as error:
            raise DataError(f"{folder}: cannot be written ({one_line(error)}); set data.cache") from error
    try:
        return _load(folder, name, key)
    except (OSError, EOFError, ValueError, TypeError, LookupError, DataError) as error:
        raise DataError(
            f"{folder}: this cache is damaged ({one_line(error)}); delete the folder, and it is made again"
        ) from error


def _make(folder: Path, name: str, key: str, decode: Callable[[], Decoding]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if folder.exists():
            return
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        partial.mkdir()
        try:
            _write(partial, name, key, decode())
            _load(partial, name, key)  # refuses what does not make a data set
            os.replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _write(folder: Path, name: str, key: str, decoding: Decoding) -> None:
    labels = {split: np.full(n, -1, dtype=np.int64) for split, n in decoding.sizes.items()}
    records = iter(decoding.records)
    first = next(records)
    n_bytes = first.pixels.nbytes
    with ExitStack() as stack:
        files = {split: stack.enter_context((folder / f"{split}_pixels.npy").open("wb")) for split in SPLITS}
        starts = {}
        for split, file in files.items():  # no memory map: on a full disk, writing to one kills the process
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
            f"{name}: {missing} of its images were not found again; it changed while it was read: run again"
        )
    for split in SPLITS:
        np.save(folder / f"{split}_labels.npy", labels[split])
    facts = {"format": FORMAT, "key": key, "source": name, "classes": decoding.classes}
    (folder / "images.json").write_text(json.dumps(facts, indent=1) + "\n")


def _load(folder: Path, name: str, key: str) -> Images:
    facts = json.loads((folder / "images.json").read_text())
    if facts["key"] != key:
        raise ValueError(f"images.json has the key {facts['key']}")
    train, test = (LabelledImages(_map(folder, split, "pixels"), _map(folder, split, "labels")) for split in SPLITS)
    return Images(train, test, len(facts["classes"]), name)


def _map(folder: Path, split: str, part: str) -> Tensor:
    """Copy on write: pages are read when they are used, and changes stay in memory."""
    return torch.from_numpy(np.load(folder / f"{split}_{part}.npy", mmap_mode="c", allow_pickle=False))

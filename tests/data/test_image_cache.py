import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from shine_exp.data import image_cache as module
from shine_exp.data import images as images_module
from shine_exp.data.image_cache import Decoding, Record, cached
from shine_exp.data.images import Images, LabelledImages
from shine_exp.data.io.digest import stamp_of
from shine_exp.errors import DataError

SIZES = {"train": 5, "test": 3}
RNG = np.random.default_rng(0)
PIXELS = {split: RNG.integers(0, 256, (n, 3, 2, 4), dtype=np.uint8) for split, n in SIZES.items()}
LABELS = {"train": [0, 1, 2, 1, 0], "test": [2, 2, 0]}
RECORDS = [Record(s, i, LABELS[s][i], PIXELS[s][i]) for s, n in SIZES.items() for i in range(n)]


class Decoder:
    """Gives the records above in any order, and counts how often it is asked."""

    def __init__(self, records: list[Record] | None = None, n_classes: int = 3) -> None:
        self.calls = 0
        self.decoding = Decoding(
            tuple("abc"[:n_classes]), SIZES, RECORDS if records is None else records
        )

    def __call__(self) -> Decoding:
        self.calls += 1
        return self.decoding


def load(cache: Path, decode: Callable[[], Decoding], identity: object = 0) -> Images:
    return cached(cache, "some/where/toy", identity, decode)


def refusal(cache: Path, decode: Callable[[], Decoding]) -> str:
    with pytest.raises(DataError) as caught:
        load(cache, decode)
    assert str(caught.value).isprintable(), "one line"
    return str(caught.value)


def the_folder(cache: Path) -> Path:
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    return folder


@pytest.mark.parametrize("order", [range(8), range(7, -1, -1), [6, 1, 0, 7, 3, 5, 2, 4]])
def test_images_come_back_in_their_places_whatever_the_order(
    tmp_path: Path, order: list[int]
) -> None:
    images = load(tmp_path / "new" / "cache", Decoder([RECORDS[i] for i in order]))
    for split, part in (("train", images.train), ("test", images.test)):
        np.testing.assert_array_equal(part.pixels.numpy(), PIXELS[split])
        assert part.labels.tolist() == LABELS[split]
        assert (part.pixels.dtype, part.labels.dtype) == (torch.uint8, torch.int64)
    assert (images.shape, images.n_classes, images.name) == ((3, 2, 4), 3, "some/where/toy")


def test_decodes_once_for_each_identity(tmp_path: Path) -> None:
    decode = Decoder()
    first, again = load(tmp_path, decode), load(tmp_path, decode)
    assert decode.calls == 1
    assert torch.equal(again.train.pixels, first.train.pixels)
    load(tmp_path, decode, identity=["other", 1])
    assert decode.calls == 2


def test_another_format_is_decoded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = Decoder()
    load(tmp_path, decode)
    monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    load(tmp_path, decode)
    assert decode.calls == 2


def test_what_lies_on_disk(tmp_path: Path) -> None:
    load(tmp_path, Decoder())
    folder = the_folder(tmp_path)
    names = {f"{split}_{part}.npy" for split in SIZES for part in ("pixels", "labels")}
    assert {file.name for file in folder.iterdir()} == names | {"images.json"}
    facts = json.loads((folder / "images.json").read_text())
    key = folder.name.removeprefix("toy-")
    stamps, digests = facts.pop("stamps"), facts.pop("digests")
    assert facts == {
        "format": module.FORMAT,
        "key": key,
        "source": "some/where/toy",
        "classes": list("abc"),
    }
    assert stamps == {name: list(stamp_of(folder / name)) for name in names}
    assert digests == {
        split: LabelledImages(torch.from_numpy(PIXELS[split]), torch.tensor(LABELS[split])).digest
        for split in SIZES
    }
    np.testing.assert_array_equal(
        np.load(folder / "train_pixels.npy", allow_pickle=False), PIXELS["train"]
    )


def test_changes_stay_in_memory(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    images = load(tmp_path, Decoder())
    images.train.pixels.fill_(0)
    images.test.labels.fill_(0)
    np.testing.assert_array_equal(load(tmp_path, Decoder()).train.pixels.numpy(), PIXELS["train"])
    assert load(tmp_path, Decoder()).test.labels.tolist() == LABELS["test"]
    assert not recwarn.list, "PyTorch warns of arrays that are not writable"


def test_processes_that_start_together_decode_once(tmp_path: Path) -> None:
    decode, loaded = Decoder(), []
    together = threading.Barrier(4)

    def start() -> None:
        together.wait()
        loaded.append(load(tmp_path, decode))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert decode.calls == 1
    assert len(loaded) == 4


def test_failure_leaves_nothing_and_is_mended_by_the_next(tmp_path: Path) -> None:
    def fail() -> Decoding:
        def records():
            yield RECORDS[0]
            raise DataError("the third image is damaged")

        return Decoding(("a", "b", "c"), SIZES, records())

    assert refusal(tmp_path, fail) == "the third image is damaged"
    assert [path.suffix for path in tmp_path.iterdir()] in ([], [".lock"])
    assert len(load(tmp_path, Decoder()).train.labels) == 5


def test_remains_of_a_process_that_was_killed_are_replaced(tmp_path: Path) -> None:
    load(tmp_path, Decoder())
    folder = the_folder(tmp_path)
    folder.rename(folder.with_name(f".{folder.name}.partial"))
    (tmp_path / f".{folder.name}.partial" / "train_pixels.npy").write_bytes(b"half")
    decode = Decoder()
    np.testing.assert_array_equal(load(tmp_path, decode).train.pixels.numpy(), PIXELS["train"])
    assert decode.calls == 1
    assert the_folder(tmp_path) == folder


def test_images_that_are_no_data_set_are_not_kept(tmp_path: Path) -> None:
    assert refusal(tmp_path, Decoder(RECORDS[:-1])) == (
        "some/where/toy: 1 of its images were not found again; "
        "it changed while it was read: run again"
    )
    assert "the training set has the label 2" in refusal(tmp_path, Decoder(n_classes=2))
    assert not any(path.is_dir() for path in tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["gone", "empty", "cut off", "noise", "a folder"])
@pytest.mark.parametrize(
    "name", ["images.json", "train_pixels.npy", "train_labels.npy", "test_pixels.npy"]
)
def test_damaged_cache_is_refused_and_named(tmp_path: Path, name: str, damage: str) -> None:
    load(tmp_path, Decoder())
    file = the_folder(tmp_path) / name
    content = file.read_bytes()
    file.unlink()
    match damage:
        case "empty":
            file.touch()
        case "cut off":
            file.write_bytes(content[:-3])
        case "noise":
            file.write_bytes(bytes(reversed(content)))
        case "a folder":
            file.mkdir()
    decode = Decoder()
    message = refusal(tmp_path, decode)
    assert message.startswith(f"{file.parent}: this cache is damaged (")
    assert message.endswith("); delete the folder, and it is made again")
    assert decode.calls == 0


def test_cache_with_wrong_contents_is_refused(tmp_path: Path) -> None:
    load(tmp_path, Decoder())
    folder = the_folder(tmp_path)
    labels = folder / "train_labels.npy"
    for wrong, fault in (
        (np.array([0, 1, 2, 1]), "has 5 images, but 4 labels"),
        (np.array([0, 1, 2, 1, 3]), "has the label 3"),
        (np.array([0.0, 1, 2, 1, 0]), "float64"),
        (np.array([None] * 5), "ValueError"),
    ):
        np.save(labels, wrong, allow_pickle=True)
        assert fault in refusal(tmp_path, Decoder())
    np.save(labels, np.array(LABELS["train"]))
    facts = json.loads((folder / "images.json").read_text())
    for changed in ({"key": "0123"}, {"classes": 3}, {"classes": ["a"]}):
        (folder / "images.json").write_text(json.dumps(facts | changed))
        assert "this cache is damaged" in refusal(tmp_path, Decoder())
    (folder / "images.json").write_text(json.dumps(facts))
    load(tmp_path, Decoder())


def test_cache_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").touch()
    assert refusal(tmp_path / "cache", Decoder()).endswith("); set data.cache")

    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert "(OSError: No space left on device); set data.cache" in refusal(
        tmp_path / "disk", Decoder()
    )
    assert not any(path.is_dir() for path in (tmp_path / "disk").iterdir())


def test_digest_is_kept_beside_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(tmp_path, Decoder()).digest
    hashed = []
    monkeypatch.setattr(
        images_module, "digest_of_arrays", lambda *arrays: hashed.append(arrays) or "other"
    )
    again = load(tmp_path, Decoder())
    assert again.digest == first
    assert again.reduced(None, None, 0).digest == first
    assert not hashed
    assert again.reduced(3, None, 0).digest != first
    assert len(hashed) == 1, "of the subset"


def test_copied_cache_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(tmp_path / "a", Decoder()).digest
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert load(tmp_path / "b", Decoder()).digest == first
    monkeypatch.setattr(images_module, "digest_of_arrays", lambda *_: pytest.fail("hashed again"))
    assert load(tmp_path / "b", Decoder()).digest == first


@pytest.mark.parametrize("name", ["train_pixels.npy", "test_labels.npy"])
def test_cache_whose_values_changed_is_refused(tmp_path: Path, name: str) -> None:
    load(tmp_path, Decoder())
    file = the_folder(tmp_path) / name
    content = bytearray(file.read_bytes())
    content[200 if "pixels" in name else -8] ^= 1
    file.write_bytes(content)
    assert "its images are not those that were decoded); delete the folder" in refusal(
        tmp_path, Decoder()
    )


@pytest.mark.parametrize("planted", ["link to a folder", "link to nothing", "file"])
def test_planted_partial_folder_is_replaced_and_not_followed(tmp_path: Path, planted: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "train_pixels.npy").write_bytes(b"precious")
    cache = tmp_path / "cache"
    load(cache, Decoder())
    folder = the_folder(cache)
    shutil.rmtree(folder)
    partial = cache / f".{folder.name}.partial"
    match planted:
        case "link to a folder":
            partial.symlink_to(elsewhere)
        case "link to nothing":
            partial.symlink_to(tmp_path / "absent")
        case "file":
            partial.touch()
    assert len(load(cache, Decoder()).train.labels) == 5
    assert {file.name: file.read_bytes() for file in elsewhere.iterdir()} == {
        "train_pixels.npy": b"precious"
    }


def test_more_than_fits_on_the_disk_is_refused_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=8 * 24 - 1))
    assert refusal(tmp_path, Decoder()) == (
        f"{tmp_path}: the decoded images take 0.0 GB, but 0.0 GB are free; "
        "set data.cache, or make the images smaller"
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=8 * 24))
    load(tmp_path, Decoder())

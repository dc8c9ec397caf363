"""Files that are decoded by several processes: in their order, with their faults."""

from collections.abc import Iterator

import joblib
import numpy as np
import pytest
from image_files import colours, encoded

from shine_exp.data.io import parallel_decoding as module
from shine_exp.data.io.parallel_decoding import File, decode_all

N_FILES = 9
DAMAGED = 5
IMAGES = [colours(seed) for seed in range(N_FILES)]


def files() -> Iterator[File]:
    for i, image in enumerate(IMAGES):
        yield ("train", "ant", f"{i}.png"), b"damaged" if i == DAMAGED else encoded(image)


@pytest.mark.parametrize("few", [0, 100], ids=["by others", "here"])
@pytest.mark.parametrize("window", [1, 400, 1 << 25])
def test_files_are_decoded_in_their_order(
    monkeypatch: pytest.MonkeyPatch, few: int, window: int
) -> None:
    monkeypatch.setattr(joblib, "cpu_count", lambda: 2)
    monkeypatch.setattr(module, "FEW", few)
    monkeypatch.setattr(module, "WINDOW", window)
    found = list(decode_all(files()))
    assert [name[-1] for name, _ in found] == [f"{i}.png" for i in range(N_FILES)]
    for i, (_, pixels) in enumerate(found):
        if i == DAMAGED:
            assert isinstance(pixels, str)
            assert "is damaged" in pixels
        else:
            assert np.array_equal(pixels, IMAGES[i])


def test_error_of_reading_files_is_raised_where_they_are_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(joblib, "cpu_count", lambda: 2)
    monkeypatch.setattr(module, "FEW", 0)

    def cut_off() -> Iterator[File]:
        yield from files()
        raise OSError("cut off")

    with pytest.raises(OSError, match="cut off"):
        list(decode_all(cut_off()))

"""A checkpoint is whole and of its run, or refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shine_exp.errors import UserError
from shine_exp.runs.checkpoint import Checkpoint, _sealed, _unsealed, load, save

SAVED = Checkpoint(
    {"seed": 3}, {"step": 2, "theta": torch.arange(3.0)}, "step,time\r\n0,0\r\n", 1.5
)


def test_checkpoint_comes_back(tmp_path: Path) -> None:
    assert load(tmp_path, "cpu") is None
    save(tmp_path, SAVED)
    found = load(tmp_path, "cpu")
    assert found is not None
    assert torch.equal(found.state.pop("theta"), torch.arange(3.0))
    assert found == replace(SAVED, state={"step": 2})


def test_torch_reads_a_checkpoint_as_it_is(tmp_path: Path) -> None:
    save(tmp_path, SAVED)
    found = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert torch.equal(found["state"]["theta"], torch.arange(3.0))


@given(st.binary(max_size=64), st.data())
def test_seal_sees_every_flipped_bit_and_every_cut(body: bytes, data: st.DataObject) -> None:
    sealed = _sealed(body + bytes(2))
    assert _unsealed(sealed) == body + bytes(2)
    flipped = bytearray(sealed)
    flipped[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    cut = sealed[: data.draw(st.integers(0, len(sealed) - 1))]
    for damaged in (bytes(flipped), cut, sealed + b"x"):
        with pytest.raises(ValueError, match="damaged"):
            _unsealed(damaged)


@pytest.mark.parametrize(
    "make", [Path.mkdir, lambda path: path.symlink_to(path.with_name("elsewhere"))]
)
def test_checkpoint_that_is_no_file_is_refused(tmp_path: Path, make) -> None:
    save(tmp_path, SAVED)
    (tmp_path / "checkpoint.pt").rename(tmp_path / "elsewhere")
    make(tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match=r"checkpoint\.pt: not a checkpoint of this run"):
        load(tmp_path, "cpu")


def test_checkpoint_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    torch.save({"config": {}, "elapsed": 1.0, "state": {}}, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="damaged, or of an earlier version"):
        load(tmp_path, "cpu")

"""A run is known by what it read."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from shine_exp.bilevel.loops.descent import Descent
from shine_exp.runs.composition import CONFIG_DIR
from shine_exp.runs.inputs import input_files

COMMAND = ("data=libsvm", "data.path=mine.txt", "outer.n_steps=2")


def rows(seed: int) -> str:
    rng = np.random.default_rng(seed)
    return "".join(f"{(-1) ** i} 1:{rng.normal():.3f} 3:{rng.normal():.3f}\n" for i in range(200))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.txt"
    path.write_text(rows(0))
    return path


@pytest.fixture
def interrupt(shine_run, monkeypatch: pytest.MonkeyPatch):
    """Run the command with Ctrl-C pressed in the second step."""

    def run(*arguments: str) -> None:
        def stepping(self, problem, state, inner=Descent.step):
            if state.step == 1:
                raise KeyboardInterrupt
            return inner(self, problem, state)

        with monkeypatch.context() as patch:
            patch.setattr(Descent, "step", stepping)
            assert shine_run(*arguments).code == 130

    return run


def data_of(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())["data"]


def one_line(outcome, *names: str) -> None:
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert all(name in outcome.err for name in names)


def test_run_json_records_files_and_data(shine_run, folders, mine: Path) -> None:
    shine_run(*COMMAND)
    (folder,) = folders()
    data = data_of(folder)
    assert len(data["digest"]) == 64
    stat = mine.stat()
    known = data["files"]["data.path"]
    assert known["path"] == "mine.txt"
    assert (known["size"], known["mtime_ns"], known["inode"]) == (
        stat.st_size,
        stat.st_mtime_ns,
        stat.st_ino,
    )
    assert len(known["sha256"]) == 64


@pytest.mark.parametrize("method", ["shine", "grid"])
def test_finished_run_on_other_data_is_refused(shine_run, folders, mine: Path, method: str) -> None:
    command = (*COMMAND, f"method={method}")
    shine_run(*command)
    (folder,) = folders()
    before = (folder / "trace.csv").read_bytes()
    mine.write_text(rows(1))
    one_line(shine_run(*command), "data.path=mine.txt", "other data")
    assert (folder / "trace.csv").read_bytes() == before
    mine.write_text(rows(0))
    assert "done already" in shine_run(*command).out


def test_touched_or_copied_file_is_the_same_data(shine_run, mine: Path) -> None:
    shine_run(*COMMAND)
    os.utime(mine, (1, 1))
    assert "done already" in shine_run(*COMMAND).out
    shutil.copy(mine, mine.with_suffix(".copy"))
    os.replace(mine.with_suffix(".copy"), mine)
    assert "done already" in shine_run(*COMMAND).out


def test_file_that_is_gone_is_no_matter_to_a_finished_run(shine_run, mine: Path) -> None:
    shine_run(*COMMAND)
    mine.unlink()
    outcome = shine_run(*COMMAND)
    assert (outcome.code, "done already" in outcome.out) == (0, True)


def test_relative_path_from_another_folder(
    shine_run, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (*COMMAND, f"runtime.results={tmp_path}/results")
    shine_run(*command)
    for name, seed in (("same", 0), ("other", 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text(rows(seed))
    monkeypatch.chdir(tmp_path / "same")
    assert "done already" in shine_run(*command).out
    monkeypatch.chdir(tmp_path / "other")
    one_line(shine_run(*command), "data.path=mine.txt")


def test_interrupted_run_does_not_resume_on_other_data(
    shine_run, interrupt, folders, mine: Path
) -> None:
    interrupt(*COMMAND)
    (folder,) = folders()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    mine.write_text(rows(1))
    one_line(shine_run(*COMMAND), "data.path=mine.txt", "other data")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    mine.write_text(rows(0))
    assert "resumed" in shine_run(*COMMAND).out


def test_interrupted_run_does_not_resume_where_the_loaded_data_differ(
    shine_run, interrupt, folders
) -> None:
    interrupt("outer.n_steps=2")
    (folder,) = folders()
    info = json.loads((folder / "run.json").read_text())
    info["data"]["digest"] = "0" * 64
    (folder / "run.json").write_text(json.dumps(info))
    one_line(shine_run("outer.n_steps=2"), "other data")


def test_group_file_counts_too(shine_run, folders, tmp_path: Path) -> None:
    path = tmp_path / "groups.txt"
    path.write_text("0\n" * 15 + "1\n" * 15)
    command = ("problem.groups=groups.txt", "outer.n_steps=1")
    shine_run(*command)
    assert list(data_of(folders()[0])["files"]) == ["problem.groups"]
    path.write_text("0\n" * 14 + "1\n" * 16)
    one_line(shine_run(*command), "problem.groups=groups.txt")


def test_folder_of_images_counts_by_its_images(shine_run, folders, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 10)):
        for label in ("cat", "dog"):
            folder = tmp_path / "images" / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(
                    folder / f"{i}.png"
                )
    command = (
        *("problem=mdeq", "data=image_folder", "data.path=images", "data.cache=cache"),
        *("outer.epochs=1", "outer.pretrain_steps=0", "outer.n_power_steps=0", "method=jf"),
    )
    outcome = shine_run(*command)
    assert (outcome.code, outcome.err) == (0, "")
    assert "done already" in shine_run(*command).out
    Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(
        tmp_path / "images/train/cat/0.png"
    )
    one_line(shine_run(*command), "data.path=images")


@pytest.mark.parametrize("interrupted", [False, True])
def test_run_of_before_without_a_record(shine_run, interrupt, folders, interrupted: bool) -> None:
    (interrupt if interrupted else shine_run)("outer.n_steps=2")
    (folder,) = folders()
    info = json.loads((folder / "run.json").read_text())
    del info["data"]
    (folder / "run.json").write_text(json.dumps(info))
    outcome = shine_run("outer.n_steps=2")
    assert outcome.code == 0
    if interrupted:
        assert len(data_of(folder)["digest"]) == 64
    else:
        assert "done already, nothing to do (data not recorded)" in outcome.out


@pytest.mark.parametrize("data", [5, {}, {"files": 3}, {"files": {"data.path": {"size": 1}}}])
def test_damaged_record(shine_run, folders, mine: Path, data: object) -> None:
    shine_run(*COMMAND)
    (folder,) = folders()
    info = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(info | {"data": data}))
    one_line(shine_run(*COMMAND), "run.json")


def test_input_files_are_found_by_their_annotation() -> None:
    def found(*overrides: str) -> dict[str, str]:
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            return dict(input_files(compose("config", list(overrides))))

    assert found() == {}
    assert found("problem.groups=3") == {}
    assert found("data=libsvm", "data.path=a", "problem.groups=b") == {
        "data.path": "a",
        "problem.groups": "b",
    }
    assert found("problem=mdeq", "data=image_folder", "data.path=c") == {"data.path": "c"}

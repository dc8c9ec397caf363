"""What the command imports: nothing heavy for a run that is done.

PyTorch alone for one it refuses, or that is on dense data.
"""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "sklearn", "scipy", "pandas", "matplotlib", "optuna", "pooch", "PIL")
SCRIPT = f"""
import atexit, sys
atexit.register(lambda: print("imported", *(name for name in {HEAVY} if name in sys.modules)))
from shine_exp.runs.command import main
main()
"""


def imported(folder: Path, *arguments: str) -> list[str]:
    line = [sys.executable, "-c", SCRIPT, *arguments]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize("sweep", [[], ["-m"]], ids=["run", "sweep"])
def test_skipped_run_imports_nothing_heavy(shine_run, tmp_path: Path, sweep: list[str]) -> None:
    shine_run("outer.n_steps=1")
    assert imported(tmp_path, *sweep, "outer.n_steps=1") == []


def test_help_and_refused_option_import_nothing_heavy(tmp_path: Path) -> None:
    assert imported(tmp_path, "--help") == []
    assert imported(tmp_path, "method=nosuch") == []


@pytest.mark.parametrize(
    "refused", ["solver.max_steps=-1", "problem=mdeq data=breast_cancer", "data=digits_images"]
)
def test_refused_value_imports_pytorch_alone(tmp_path: Path, refused: str) -> None:
    assert imported(tmp_path, *refused.split()) == ["torch"]


@pytest.mark.parametrize("data", ["breast_cancer", "digits", "gaussian data.scaling=variance"])
def test_run_on_dense_data_imports_pytorch_alone(tmp_path: Path, data: str) -> None:
    assert imported(tmp_path, *f"data={data} outer.n_steps=1".split()) == ["torch"]
    assert list(tmp_path.rglob("trace.csv")), "it was made"


def test_sweep_passes_over_finished_runs_and_composes_each_once(
    shine_run, folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    sweep = ("-m", "method=shine,jf", "seed=range(3)", "outer.n_steps=1")
    assert shine_run(*sweep).code == 0
    composed = []
    original = ConfigLoaderImpl.load_configuration

    def load(self, *arguments, **options):
        composed.append(arguments)
        return original(self, *arguments, **options)

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", load)
    again = shine_run(*sweep)
    assert (again.code, again.out.splitlines()[0]) == (0, "6 done already, nothing to do")
    of_the_sweep, of_each_run, defaults_of_each_method = 2, 6, 2
    assert len(composed) <= of_the_sweep + of_each_run + defaults_of_each_method


def test_sweep_launches_only_what_is_left(shine_run, folders) -> None:
    shine_run("seed=1", "outer.n_steps=1")
    outcome = shine_run("-m", "seed=0,1,2", "outer.n_steps=1")
    assert (outcome.out.count("done already"), outcome.out.count("done after")) == (1, 2)
    assert len(folders()) == 3

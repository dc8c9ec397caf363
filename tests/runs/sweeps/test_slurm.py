"""A sweep on a real SLURM of one node, which the test starts for itself where it is installed."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

NEEDED = ("slurmctld", "slurmd", "srun", "munged")
SBIN = "/usr/sbin"  # where Debian puts the daemons
PROBLEM = '''
import os
import signal
import subprocess
from pathlib import Path

import torch

from shine_exp import AutodiffProblem
from shine_exp.runs.machine import job_id


def acting(seed: int) -> AutodiffProblem:
    """min_α ‖θ*(α) − 3/2‖²/2, in whose second step something happens to the job, once."""

    def inner(alpha, theta):
        return (theta**2).sum() / 2 + (alpha.exp() * (theta - 2) ** 2).sum() / 2

    def outer(alpha, theta):
        done = Path(f"done-{seed}")
        if alpha.detach().any() and not done.exists():
            done.touch()
            act(seed, job_id())
        return ((theta - 1.5) ** 2).sum() / 2

    zeros = torch.zeros(2, dtype=torch.float64)
    return AutodiffProblem(inner, outer, zeros, zeros, lower=-6.0, upper=6.0)


def act(seed: int, job: str) -> None:
    if seed == 0:
        subprocess.run(["scontrol", "requeue", job], check=True)
        signal.pause()
    if seed == 1:
        subprocess.run(["scancel", job], check=True)
        signal.pause()
    if seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if seed == 3:
        os.kill(int(Path("sweep.pid").read_text()), signal.SIGKILL)
'''

SHARED = Path(__file__).parents[2] / "training" / "shared_task"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(shutil.which(name, path=f"{os.environ['PATH']}:{SBIN}") for name in NEEDED),
        reason=f"SLURM is not installed: it takes {', '.join(NEEDED)}",
    ),
]


@pytest.fixture
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a command that is to find the SLURM."""
    root = tmp_path_factory.mktemp("slurm")
    ours = os.environ | {"SLURM_ROOT": str(root), "CTLD_PORT": "26817", "SLURMD_PORT": "26818"}
    ours["SLURM_CPUS"] = "2"  # for jobs of two tasks, whatever this process may use
    script = ["bash", str(Path(__file__).with_name("slurm.sh"))]
    subprocess.run([*script, "start"], env=ours, check=True, capture_output=True, timeout=120)
    paths = f"{root}/bin:{os.environ['PATH']}"
    yield ours | {"SLURM_CONF": f"{root}/slurm.conf", "PATH": paths}
    subprocess.run([*script, "stop"], env=ours, check=True, capture_output=True, timeout=120)


@pytest.fixture
def sweep(
    slurm: dict[str, str], tmp_path: Path
) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """A sweep of the problem above."""
    (tmp_path / "acting_of_test.py").write_text(PROBLEM)
    (tmp_path / "mine" / "problem").mkdir(parents=True)
    (tmp_path / "mine" / "problem" / "acting.yaml").write_text("_target_: acting_of_test.acting\n")
    command = "--config-dir=mine -m problem=acting outer.n_steps=5 runtime.checkpoint_every=0"
    command += " hydra/launcher=slurm hydra.launcher.mem_gb=1 hydra.launcher.timeout_min=30"
    paths = f"{os.environ.get('PYTHONPATH', '')}:{tmp_path}"

    def run(*seeds: int) -> "subprocess.CompletedProcess[str]":
        which = f"seed={','.join(map(str, seeds))}"
        process = subprocess.Popen(
            [sys.executable, "-m", "shine_exp.runs.command", *command.split(), which],
            cwd=tmp_path,
            env=slurm | {"PYTHONPATH": paths},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        (tmp_path / "sweep.pid").write_text(str(process.pid))
        try:
            out, err = process.communicate(timeout=300)
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run


def starts(folder: Path) -> dict[str, list[str]]:
    """How each start of each run has ended, by its seed."""
    found = {}
    for path in folder.rglob("run.json"):
        info = json.loads(path.read_text())
        found[path.parent.name[:6]] = [entry["status"] for entry in info["starts"]]
    return found


def test_sweep_on_slurm_survives_what_happens_to_its_jobs(sweep, tmp_path: Path) -> None:
    first = sweep(0, 1, 2)
    assert first.returncode == 1, first.stdout + first.stderr
    there = starts(tmp_path)
    assert there["seed=0"][-1] == "done", "its job started again"
    assert there["seed=1"] == ["interrupted"]
    assert there["seed=2"] == ["running"]
    assert first.stdout.endswith("3 runs: 1 done, 1 dead, 1 interrupted\n")
    again = sweep(0, 1, 2)
    assert again.returncode == 0, again.stdout + again.stderr
    assert starts(tmp_path)["seed=1"] == ["interrupted", "done"]
    assert starts(tmp_path)["seed=2"] == ["killed", "done"]


def test_sweep_on_slurm_that_is_killed_is_taken_up_again(sweep, tmp_path: Path) -> None:
    assert sweep(3, 4).returncode == -9
    again = sweep(3, 4)
    assert again.returncode == 0, again.stdout + again.stderr
    assert all(ends.count("done") == 1 for ends in starts(tmp_path).values())
    assert len(starts(tmp_path)) == 2


def test_tasks_of_a_job_on_slurm_make_one_run_together(slurm, tmp_path: Path) -> None:
    """One of the two gets a signal, which ends both, and the same sweep goes on."""
    command = f"--config-dir={SHARED} -m problem=shared method=jf,shine problem.struck=1"
    command += " hydra/launcher=slurm hydra.launcher.tasks_per_node=2 hydra.launcher.mem_gb=1"
    for end in (["interrupted", "done"], ["interrupted", "done", "done"]):
        ended = subprocess.run(
            [sys.executable, "-m", "shine_exp.runs.command", *command.split()],
            cwd=tmp_path,
            env=slurm | {"PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{SHARED}"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        runs = [json.loads(path.read_text()) for path in tmp_path.rglob("run.json")]
        made = [start for run in runs for start in run["starts"]]
        assert sorted(start["status"] for start in made) == sorted(end), ended.stdout
        assert {start["processes"] for start in made} == {2}
    assert ended.returncode == 0, ended.stdout + ended.stderr

"""The command: refusals in one line, and sweeps through Hydra's launchers."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import shine_exp
from shine_exp.bilevel.loops.descent import Descent
from shine_exp.runs import checkpoint


@pytest.fixture
def refuses(shine_run):
    def check(*overrides: str, names: str) -> str:
        outcome = shine_run(*overrides)
        assert outcome.code == 2
        assert outcome.err.startswith("shine-run: ")
        assert outcome.err.count("\n") == 1
        assert "Traceback" not in outcome.err + outcome.out
        assert names in outcome.err
        return outcome.err

    return check


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (
            "solver=scipy_cg method=shine",
            "take solver=bfgs, lbfgs, lbfgs_10, lbfgs_60, scipy; or take",
        ),
        ("solver=scipy_cg method=fallback", "or take method=cg, cg_limited, first_order, full,"),
        ("solver=scipy_cg method=refine", "leaves none: take solver=bfgs, lbfgs"),
        ("solver=scipy method=opa", "extra updates: take solver=bfgs, lbfgs, lbfgs_10, lbfgs_60\n"),
        ("method=grid outer=hoag", "method=grid brings none; leave outer to the method, or take"),
        ("method=unroll outer=hoag", "method=unroll brings none; leave outer to the method"),
        ("method=cg outer=unroll", "outer=unroll reads no method; leave one of them away"),
        ("method=cg outer=grid", "outer=grid reads no method"),
        ("method=grid solver.opa=5", "solver.opa=5: outer=grid tells the solver of no outer"),
        ("outer=theorem solver.opa=5", "solver.opa=5: outer=theorem tells the solver of no outer"),
        ("solver=broyden", "finds a minimum: take solver=bfgs, lbfgs, lbfgs_10, lbfgs_60, scipy"),
        (
            "outer=train",
            "take outer=adam, bayes, descent, grid, hoag, inversion_quality, random, theorem",
        ),
        ("data=none", "problem=logreg needs data: take data=20news, breast_cancer, digits,"),
        (
            "problem=mdeq solver=lbfgs",
            "finds a root: take solver=adjoint_broyden, anderson, broyden, fixed_point",
        ),
        ("problem=mdeq outer=hoag", "for this one take outer=advise, network_inversion, train"),
        ("problem=mdeq solver=anderson", "leaves none: take solver=adjoint_broyden, broyden; or"),
        ("problem=mdeq method=opa", "extra updates: take solver=adjoint_broyden"),
        ("problem=mdeq data=digits", "take data=cifar10, digits_images, image_folder"),
        ("data=digits_images", "which gives Images: take data=20news, breast_cancer, digits,"),
        ("problem=mdeq problem.architecture.groups=5", "problem.architecture"),
        ("runtime.threads=0", "runtime.threads=0: must be greater than 0"),
        ("runtime.threads=100000", "runtime.threads=100000: this machine has "),
        ("runtime.results=", "runtime.results is empty"),
        ("runtime.checkpoint_every=x", "runtime.checkpoint_every=x"),
        ("outer.n_steps=2.5", "outer.n_steps=2.5: must be a valid integer"),
        ("outer.n_steps=abc", "outer.n_steps=abc"),
        ("outer.n_steps=-1", "outer.n_steps=-1: must be greater than 0"),
        ("problem.bound=-3", "problem.bound=-3"),
        ("outer.compare=1", "outer.compare=1: must be a valid boolean"),
        ("outer.schedule.kind=linear", "'exponential', 'quadratic', 'cubic' or 'exact'"),
        ("outer.hypergradient=foo", "outer.hypergradient=foo: must be a node with a _target_"),
        ("solver.memory=x", "solver.memory=x: must be a valid integer"),
        ("solver.opa=foo", "solver.opa=foo: must be a valid integer, or 'countdown'"),
        (
            "outer.schedule.decrease=2",
            "outer.schedule.decrease=2: must be less than or equal to 1",
        ),
        ("method=refine method.steps.max_steps=abc", "method.steps.max_steps=abc"),
        ("problem=mdeq outer.epochs=1.5", "outer.epochs=1.5"),
        ("problem=mdeq outer.epochs=-1", "outer.epochs=-1"),
        (
            "problem=mdeq problem.architecture.channels=[8,x]",
            "problem.architecture.channels=[8, 'x']",
        ),
        ("+methd=shine", "methd: no such option; did you mean method? there are: problem,"),
        ("methd=shine", "methd: no such option"),
        ("method=cg +method.foo=1", "method.foo: no such option; there are: max_steps,"),
        ("method=grid +method.foo=1", "method.foo: nothing reads it"),
        ("+problem.seed=1", "problem.seed: no such option; there are: groups, grouping, bound"),
        ("runtime.keep=[alfa]", "runtime.keep=['alfa']: must be 'alpha', 'theta' or 'network'"),
        ("+solver.foo=1", "solver.foo: no such option; there are: memory,"),
        ("+runtime.foo=1", "runtime.foo: no such option; there are: results,"),
        ("seed=", "seed=: take a whole number"),
        ("method=", "method/"),
        ("data.scaling=", "data.scaling=: must be"),
        ("data.scaling=a,ö", "put quotes around"),
        ("~data", "data=None: is no option"),
        ("problem=null", "must be a string"),
        ("+method.x={1:2,a:3}", "must all be words"),
        ("--nothing", "unrecognized arguments: --nothing; see shine-run --help"),
        ("methodshine -m seed=0", "methodshine"),
        ("-m --cfg job", "Only one of"),
        ("--config-dir=nowhere", "nowhere"),
        ("seed=${nothing}", "nothing"),
        ("data=gaussian data.n=1000000000000", "out of memory"),
        (f"problem.groups={300 * 'a'}", "too long"),
        (f"data=libsvm data.path={300 * 'a'}", "too long"),
        (f"runtime.results={300 * 'a'}", "too long"),
        (f"-m seed=0,1 runtime.results={300 * 'a'}", "too long"),
        (f"method={300 * 'a'}", "there are: "),
        (
            "method._target_=nothing.Here",
            "method._target_=nothing.Here: no module nothing",
        ),
        (
            "method._target_=shine_exp.inverse.shine.Shin",
            "shine_exp.inverse.shine has no Shin",
        ),
        ("method._target_=..x", "method._target_=..x"),
        ("method._target_=", "method._target_="),
        ("method._target_=builtins.int", "is no class or function"),
        ("method._target_=math.sin", "math.sin"),
        ("method=shine,cg", "method=shine,cg: more than one value; add -m"),
        ("--method shine", "--method: options are written without dashes, method=VALUE"),
        (
            "experiment=fig1",
            "is a sweep; run it by shine-run -m experiment=fig1, or choose problem, data, method",
        ),
        ("seed=-1", "seed=-1"),
        ("seed=0.5", "seed=0.5"),
        ("seed=5000000000", "seed=5000000000"),
        ("seed=true", "seed=True"),
        ("data=libsvm", "data.path"),
        ("data=libsvm data.path=nowhere.txt", "nowhere.txt"),
        ("method.foo=1", "method.foo"),
        ("problem.groups=0", "problem.groups=0"),
        ("problem.groups=100", "problem.groups=100"),
        ("problem.groups=1.5", "problem.groups=1.5"),
        ("problem.groups=nowhere.txt", "nowhere.txt"),
        ("data=nothing", "data/nothing"),
        ("experiment=fig99", "experiment/fig99"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(
    refuses, tmp_path: Path, overrides: str, names: str
) -> None:
    refuses(*overrides.split(), names=names)
    assert not (tmp_path / "results").exists()


def test_options_may_stand_between_overrides(shine_run, folders) -> None:
    assert shine_run("method=jf", "-m", "seed=0,1", "outer.n_steps=1").code == 0
    assert [folder.name[:6] for folder in folders()] == ["seed=0", "seed=1"]


def test_letters_of_all_languages(shine_run, folders, tmp_path: Path) -> None:
    outcome = shine_run("runtime.results=größe", "outer.n_steps=1")
    assert (outcome.code, outcome.err) == (0, "")
    assert "done already" in shine_run('runtime.results="größe"', "outer.n_steps=1").out
    assert (tmp_path / "größe" / "logreg-breast_cancer").is_dir()


def test_version_is_shine_exp_s(shine_run) -> None:
    assert shine_run("--version").out == f"shine-exp {shine_exp.__version__}\n"


def test_a_folder_that_was_deleted(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"import os; os.rmdir({str(gone)!r}); from shine_exp.runs.command import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=gone, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "current folder" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["outer.n_steps=1"], ["-m", "seed=0,1", "outer.n_steps=1"]], ids=["run", "sweep"]
)
@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_results_that_cannot_be_written(
    refuses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], number: int
) -> None:
    (tmp_path / "results").mkdir()

    def mkdir(self: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        if "results/" in str(self):
            raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    refuses(*arguments, names=os.strerror(number))
    assert list((tmp_path / "results").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe", "config.yaml"),
        (b"- 1\n", "config.yaml"),
        (b"a: [", "config.yaml"),
        (b"", "config.yaml"),
    ],
)
def test_damaged_configuration_of_a_run(
    shine_run, refuses, folders, content: bytes, says: str
) -> None:
    shine_run("outer.n_steps=1")
    (folders()[0] / "config.yaml").write_bytes(content)
    refuses("outer.n_steps=1", names=says)


@pytest.mark.parametrize(
    "content", ["{}", "[]", "3", "", '{"status": "dnoe"}', '{"status": ["done"]}', '{"status": nul']
)
def test_damaged_run_json(shine_run, refuses, folders, content: str) -> None:
    shine_run("outer.n_steps=1")
    (folders()[0] / "run.json").write_text(content)
    refuses("outer.n_steps=1", names="run.json")


@pytest.mark.parametrize("name", ["latin", "bad"])
def test_yaml_of_the_user_s_own_that_cannot_be_read(refuses, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "mine" / "method"
    folder.mkdir(parents=True)
    (folder / f"{name}.yaml").write_bytes({"latin": b"ratio: \xff", "bad": b"start: ["}[name])
    refuses(
        "--config-dir=mine",
        f"method={name}",
        names="a YAML file is not UTF-8" if name == "latin" else "bad.yaml",
    )


def test_an_older_run_may_lack_what_is_at_its_default(shine_run, folders) -> None:
    shine_run("seed=3")
    (folder,) = folders()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    del config["outer"]["slack"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert "done already" in shine_run("seed=3").out


def test_an_unknown_method_is_answered_with_those_that_exist(refuses) -> None:
    line = refuses("method=foo", names="method/foo")
    listed = line.split("there are: ")[1].strip().split(", ")
    assert {"shine", "opa", "cg", "bayes"} <= set(listed)
    assert not [name for name in listed if name.startswith("_")]


def test_a_groups_file_must_have_one_line_per_feature(refuses, tmp_path: Path) -> None:
    (tmp_path / "groups.txt").write_text("0\n1\n1\n")
    line = refuses("problem.groups=groups.txt", names="groups.txt")
    assert "3" in line
    assert "30" in line


def test_results_that_are_a_file(refuses, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    refuses("runtime.results=taken", names="taken")
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_folder_of_another_configuration(shine_run, refuses, folders) -> None:
    shine_run("outer.n_steps=1")
    (folder,) = folders()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["problem"]["bound"] = 11.0
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    before = (folder / "trace.csv").read_bytes()
    refuses("outer.n_steps=1", names=str(folder.relative_to(folder.parents[3])))
    assert (folder / "trace.csv").read_bytes() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_a_device_that_is_not_there(refuses) -> None:
    refuses("runtime.device=cuda", names="runtime.device=cuda")


@pytest.fixture
def interrupted(shine_run, folders, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of `shine-run outer.n_steps=2`, interrupted in its second step."""

    def stepping(self, problem, state, inner=Descent.step):
        if state.step == 1:
            raise KeyboardInterrupt
        return inner(self, problem, state)

    with monkeypatch.context() as patch:
        patch.setattr(Descent, "step", stepping)
        assert shine_run("outer.n_steps=2").code == 130
    (folder,) = folders()
    return folder


def test_a_garbled_checkpoint(interrupted: Path, refuses) -> None:
    (interrupted / "checkpoint.pt").write_bytes(b"\x00garbled")
    refuses("outer.n_steps=2", names="checkpoint.pt")


def test_a_truncated_checkpoint(interrupted: Path, refuses) -> None:
    path = interrupted / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-100])
    refuses("outer.n_steps=2", names="checkpoint.pt")


def test_a_checkpoint_of_another_configuration(interrupted: Path, refuses) -> None:
    """Of the same loop and sizes, so that its state alone would fit."""
    saved = checkpoint.load(interrupted, "cpu")
    saved.config["problem"]["bound"] = 11.0
    checkpoint.save(interrupted, saved)
    refuses("outer.n_steps=2", names="its configuration is another one")


def test_a_sweep_with_a_bad_run_does_the_others_and_fails_at_its_end(
    shine_run, folders, status
) -> None:
    outcome = shine_run("-m", "problem.groups=1,100,2", "outer.n_steps=1")
    assert outcome.code == 2
    assert "Traceback" not in outcome.err
    at_once, at_the_end = outcome.err.splitlines()
    assert at_once.startswith("shine-run: problem.groups=100 outer.n_steps=1: problem.groups=100: ")
    assert at_the_end.startswith("shine-run: the sweep is done, but for ")
    done = [folder for folder in folders() if (folder / "run.json").exists()]
    assert [status(folder) for folder in done] == ["done", "done"]


def test_a_basic_sweep(shine_run, folders, status) -> None:
    assert shine_run("-m", "method=shine,cg", "outer.n_steps=1").code == 0
    assert [(folder.parent.name, status(folder)) for folder in folders()] == [
        ("cg", "done"),
        ("shine", "done"),
    ]


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "shine_exp.runs.command", *arguments]
    return subprocess.run(
        line, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param(["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], id="joblib"),
        pytest.param(
            ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"],
            id="submitit_local",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_launchers(launcher: list[str], tmp_path: Path, folders, status) -> None:
    result = command("-m", *launcher, "seed=0,1", "outer.n_steps=1", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    done = [(folder.name[:6], status(folder)) for folder in folders()]
    assert done == [("seed=0", "done"), ("seed=1", "done")]


def test_the_slurm_launcher_needs_its_name_only(shine_run) -> None:
    outcome = shine_run("hydra/launcher=submitit_slurm", "--cfg", "hydra")
    assert outcome.code == 0
    launcher = yaml.safe_load(outcome.out)["hydra"]["launcher"]
    assert launcher["_target_"].endswith("SlurmLauncher")


def test_preset_for_slurm_starts_jobs_again(shine_run) -> None:
    outcome = shine_run("hydra/launcher=slurm", "--cfg", "hydra")
    assert (outcome.code, outcome.err) == (0, "")
    launcher = yaml.safe_load(outcome.out)["hydra"]["launcher"]
    assert launcher["_target_"].endswith("SlurmLauncher")
    assert launcher["additional_parameters"] == {"requeue": True}
    assert launcher["max_num_timeout"] > 0
    assert launcher["cpus_per_task"] == "${runtime.threads}"


def test_exit_code_and_stream_of_the_real_process(tmp_path: Path) -> None:
    result = command("problem.groups=100", folder=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [result.stderr.rstrip("\n")]
    assert "problem.groups=100" in result.stderr


@pytest.mark.parametrize(
    "arguments", [["outer.n_steps=1"], ["-m", "method=shine,jf", "outer.n_steps=1"]]
)
def test_a_reader_who_has_gone_is_no_fault(
    tmp_path: Path, folders, status, arguments: list[str]
) -> None:
    line = [sys.executable, "-m", "shine_exp.runs.command", *arguments]
    process = subprocess.Popen(
        line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=300) == 0
    assert status(folders()[0]) == "done"


def test_the_installed_command_is_there() -> None:
    assert shutil.which("shine-run", path=str(Path(sys.executable).parent))

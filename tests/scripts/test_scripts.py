"""The scripts that other tests do not run: what they would do, or that they do it on small data."""

import math
import shlex
import sys

import pytest
from hydra import compose, initialize_config_dir

from shine_exp.runs.composition import CONFIG_DIR


def test_reproduce_lists_commands_that_compose(
    script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for fast in ([], ["--fast"]):
        arguments = ["reproduce.py", "--list", "--images", "my images.tar", *fast]
        monkeypatch.setattr(sys, "argv", arguments)
        script("reproduce").main()
        commands = [
            line.split() and shlex.split(line) for line in capsys.readouterr().out.splitlines()
        ]
        commands = [words for words in commands if words[:2] == ["shine-run", "-m"]]
        assert len(commands) >= 9
        for _, _, *overrides in commands:
            first = [
                override.partition(",")[0] for override in overrides
            ]  # of the values of a sweep
            with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
                named = [one for one in first if not one.startswith(("hydra/", "seed=range"))]
                config = compose("config", named)
            if any(one.startswith("data.path=") for one in first):
                assert config.data.path == "my images.tar"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fig99"], "no such figure: fig99; there are: fig1,"),
        ([], "name one or more of: fig1,"),
        (["fig3", "--images", "nowhere.tar"], "nowhere.tar: no such folder or file"),
    ],
)
def test_reproduce_refuses_in_one_line(
    script,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["reproduce.py", *arguments])
    with pytest.raises(SystemExit) as end:
        script("reproduce").main()
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"reproduce.py: {says}")


def test_bench_peers_finds_that_all_searches_end_near_the_same_optimum(
    script, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_peers.py", "--data", "breast_cancer", "--seeds", "3"])
    script("bench/peers").main()
    rows = [line for line in capsys.readouterr().out.splitlines()[1:] if line]
    ends = {row[:30].strip(): float(row.split()[-3]) for row in rows}
    near = {"shine", "cg (HOAG)", "scalar search, our L-BFGS", "L-BFGS to 1e-4, bounded"}
    assert near <= set(ends)
    assert all(abs(ends[name]) < 1 for name in near), ends
    assert all("1 of 1: " in row or "0 of 1: inf" in row for row in rows)


def test_seconds_are_those_from_which_on_the_loss_stays_near_the_best(script) -> None:
    seconds = script("bench/peers").seconds
    mark = script("bench/peers").Mark
    curve = [mark(1.0, 1.0), mark(2.0, 3.0), mark(3.0, 1.0005), mark(4.0, 0.9995)]
    assert seconds(curve, 1.0, 0.001) == 3.0
    assert seconds(curve, 1.0, 0.0001) == math.inf
    assert seconds(curve[:1], 1.0, 0.001) == 1.0


def test_median_over_seeds_is_infinite_where_half_of_them_fail(script) -> None:
    spread = script("bench/peers").spread
    assert spread([1.0, 2.0, math.inf], 1) == "2.0 [1.0, inf]"
    assert spread([1.0, math.inf], 1) == "inf [1.0, inf]"
    assert spread([math.inf], 1) == "inf [inf, inf]"

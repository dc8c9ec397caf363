"""The code in README.md does what the text around it says."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import yaml

README = (Path(__file__).parent.parent / "README.md").read_text()


def block(language: str, holding: str) -> str:
    """The only block of code in this language that holds these words."""
    (found,) = [
        code
        for code in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
        if holding in code
    ]
    return found


def test_the_layer_in_a_model_of_one_s_own(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(compile(block("python", "layer = DEQ("), "README.md", "exec"), names)
    last = names["layer"].last
    assert capsys.readouterr().out.count("tensor") == 2
    assert float(last.forward_residual.max()) < 1e-4
    assert 0 < float(last.backward_residual.max()) < 1
    assert last.products == 0
    assert all(p.grad is not None for p in names["layer"].parameters())


def test_a_new_inverse_method_is_one_file_one_yaml_and_a_test(
    shine_run, folders, status, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From a folder of one's own beside conf/, and a module that stands where the text puts its
    file.
    """
    source, test = (
        block("python", "class ScaledIdentity"),
        block("python", "def test_exact_for_a_multiple"),
    )
    described = block("yaml", "scaled_identity.ScaledIdentity")
    lines = [line for line in (source + described + test).splitlines() if line.strip()]
    assert len(lines) < 30

    name = "shine_exp.inverse.scaled_identity"
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader=None))
    exec(compile(source, "README.md", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("shine_exp.inverse.scaled_identity", module, raising=False)
    names: dict[str, object] = {}
    exec(compile(test, "README.md", "exec"), names)
    names["test_exact_for_a_multiple_of_the_identity"]()

    assert yaml.safe_load(described)["inverse"]["_target_"] == f"{name}.ScaledIdentity"
    path = tmp_path / "mine" / "method" / "scaled.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(described)
    for command in (
        ["method=scaled", "outer.n_steps=2"],
        ["method=scaled", "method.inverse.factor=0.5", "outer.n_steps=2"],
        ["problem=mdeq", "method=scaled", "outer.epochs=1", "outer.batch_size=350"],
    ):
        outcome = shine_run("--config-dir=mine", *command)
        assert (outcome.code, outcome.err) == (0, "")
    assert [status(folder) for folder in folders()] == ["done"] * 3

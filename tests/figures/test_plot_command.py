import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from traces import quality_row, theorem_row

from shine_exp import __version__

ROWS = [(0.5, 4, 1.0, 0.9), (1.5, 8, 0.5, 0.4)]


def add_everything(add_run) -> None:
    for method in ("shine", "cg", "opa"):
        add_run(method, 0, ROWS)
    add_run("shine", 0, ROWS, where=("nls", "20news"))
    row = theorem_row("shine", 0.1, 0.2, 0.9)
    add_run("shine", 0, [row], outer="theorem", suffix="-t")
    row = quality_row("shine", "random", 0.9, 0.5)
    add_run("shine", 0, [row], outer="inversion_quality", suffix="-i")
    add_run("shine", 0, [(0, 1, 0.5, 0.5)], differs={"problem.groups": 2}, suffix="-g")


LINEAR = ("fig1", "fig2-left", "figE1", "figNLS", "fig2-right", "fig-theorem", "fig-groups")
MANY = ("fig-architecture", "fig-augment", "fig-cleaning", "fig-outer", "fig-softmax")
NETWORKS = ("fig3", "figE2", "table-contractivity", "table-networks", "fig-sudoku", "table-sudoku")
KNOWN = sorted(("curves", "table", *LINEAR, *MANY, *NETWORKS))
NAMES = (*LINEAR, "curves-logreg-20news", "curves-nls-20news")
TABLES = ("table", *LINEAR)  # the curves of a place have no table of their own


def test_every_figure_is_written_twice_and_again_byte_for_byte(
    add_run, results: Path, shine_plot
) -> None:
    add_everything(add_run)
    code, out, err = shine_plot(results)
    assert (code, err) == (0, "")
    files = {path.name: path.read_bytes() for path in (results / "figures").iterdir()}
    assert set(files) == {
        *(f"{name}.{kind}" for name in NAMES for kind in ("pdf", "png")),
        *(f"{name}.{kind}" for name in TABLES for kind in ("csv", "md")),
    }
    assert files["fig1.png"].startswith(b"\x89PNG")
    assert files["fig1.pdf"].startswith(b"%PDF")
    for name in files:
        assert f"wrote {results / 'figures' / name}" in out
    command = [
        sys.executable,
        "-m",
        "shine_exp.figures.command",
        str(results),
        "--out",
        str(results / "again"),
    ]
    elsewhere = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    subprocess.run(
        [*command, "--figure", "fig1", "--figure", "fig2-right"], env=elsewhere, check=True
    )
    again = {path.name: path.read_bytes() for path in (results / "again").iterdir()}
    assert len(again) == 10
    assert again == {name: files[name] for name in again}


def test_networks_have_figures_and_tables_of_their_own(
    add_run, add_network, results: Path, shine_plot
) -> None:
    for method in ("shine", "jf"):
        add_network(method, 0, [{}] * 3)
    rows = [quality_row("jf", direction, 0.9, 0.5) for direction in ("random", "prescribed")]
    add_run("full", 0, rows, where=("mdeq", "digits_images"), outer="network_inversion")
    code, out, err = shine_plot(results)
    assert (code, err) == (0, "")
    figures = [
        f"{name}.{kind}"
        for name in ("fig3", "figE2", "curves-mdeq-digits_images")
        for kind in ("png", "pdf")
    ]
    tables = [
        f"{name}.{kind}"
        for name in ("table-contractivity", "table-networks", "fig3", "figE2")
        for kind in ("csv", "md")
    ]
    assert {path.name for path in (results / "figures").iterdir()} == {*figures, *tables}
    lines = out.splitlines()
    assert {*figures, *tables} == {
        line.split("/")[-1] for line in lines if line.startswith("wrote")
    }
    assert lines[lines.index("table-contractivity:") + 2].split() == [
        *("MDEQ,", "digits", "jf", "1", "0.6", "90.00", "0.001", "0.01"),
    ]
    text = (results / "figures" / "table-networks.md").read_text()
    assert "| MDEQ, digits | shine | 1 of 1 | 90.00 |" in text
    assert (
        (results / "figures" / "table-contractivity.csv")
        .read_text()
        .startswith("network,method,seeds,accuracy_mean")
    )
    code, out, _ = shine_plot(
        results, "--figure", "curves", "--figure", "table-networks", "--x", "products"
    )
    assert code == 0
    assert "curves-mdeq-digits_images: not drawn against products" in out
    assert "table-networks:" in out.splitlines()
    assert "table-contractivity" not in out


def test_a_reader_that_stops_reading_ends_it_quietly(add_run, results: Path) -> None:
    add_run("shine", 0, ROWS)
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "shine_exp.figures.command", str(results), "--figure", "fig1"]
    ended = subprocess.run(
        command, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write_end)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (results / "figures" / "fig1.pdf").exists()


def test_table_unfinished_and_missing_are_printed(add_run, results: Path, shine_plot) -> None:
    add_run("shine", 0, ROWS)
    add_run("cg", 4, ROWS, status="interrupted")
    code, out, _ = shine_plot(results, "--figure", "fig1")
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == "table:"
    assert lines[1].startswith("problem-data")
    assert lines[4].split() == [
        "logreg-20news",
        "shine",
        "1",
        "%",
        "1",
        "of",
        "1",
        "1.5",
        "8",
        "0.4",
        "0",
        "0",
        "1",
        *(["not", "recorded", "not", "recorded"]),
    ]
    assert "data not recorded, in runs of before: logreg-20news 2 of 2" in lines
    waiting = "not finished, so not in the table and the paper's figures"
    assert f"{waiting}: logreg-20news, cg: seed 4 interrupted" in lines
    how = "make them with: shine-run -m experiment=fig1"
    assert f"fig1: no finished runs of method refine, cg, jf, grid on logreg-20news; {how}" in lines
    assert [line.split("/")[-1] for line in lines if line.startswith("wrote")] == [
        "fig1.png",
        "fig1.pdf",
        "fig1.csv",
        "fig1.md",
        "table.csv",
        "table.md",
    ]


def just_begun(folder: Path) -> None:
    """Take the rows from its trace and leave the header."""
    path = folder / "trace.csv"
    path.write_text(path.read_text().splitlines(keepends=True)[0])


def test_runs_without_a_row_are_reported_and_not_drawn(add_run, results: Path, shine_plot) -> None:
    just_begun(add_run("shine", 0, ROWS, status="running"))
    row = theorem_row("shine", 0.1, 0.2, 0.9)
    just_begun(add_run("shine", 1, [row], outer="theorem", status="interrupted"))
    code, out, err = shine_plot(results)
    assert (code, err) == (0, "")
    waiting = "not finished, so not in the table and the paper's figures: logreg-20news, shine"
    assert f"{waiting}: seed 0 running, seed 1 interrupted" in out.splitlines()
    assert not [line for line in out.splitlines() if line.endswith((".png", ".pdf"))]
    add_run("shine", 2, ROWS)
    add_run("cg", 2, ROWS)
    just_begun(add_run("cg", 0, ROWS, status="running"))
    code, out, err = shine_plot(results, "--figure", "curves")
    assert (code, err) == (0, "")
    assert "curves-logreg-20news.png" in out
    table = {
        line.split()[1]: line.split()[-7:-4]
        for line in out.splitlines()
        if line.startswith("logreg-20news")
    }
    assert table == {"shine": ["0", "1", "0"], "cg": ["0", "1", "0"]}


def test_plot_command_options(add_run, results: Path, shine_plot) -> None:
    add_everything(add_run)
    out = results / "deep" / "er"
    assert (
        shine_plot(
            results, "--figure", "fig2-left", "--figure", "curves", "--x", "steps", "--out", out
        )[0]
        == 0
    )
    names = {path.stem for path in out.glob("*.png")}
    assert names == {"fig2-left-steps", "curves-logreg-20news-steps", "curves-nls-20news-steps"}


def test_plot_command_refuses_in_one_line(add_run, results: Path, shine_plot) -> None:
    folder = add_run("shine", 0, ROWS)
    file = results / "file"
    file.touch()
    known = ", ".join([*KNOWN, "curves-logreg-20news"])
    refused = {
        (results / "nowhere",): f"no such results folder: {results / 'nowhere'}",
        (file,): f"no such results folder: {file}",
        (results, "--figure", "fig7"): f"no such figure: fig7; there are: {known}",
        (
            results,
            "--out",
            file,
        ): f"cannot write into {file}: File exists; choose another folder: --out DIR",
        (
            results,
            "--out",
            file / "x",
        ): f"cannot write into {file / 'x'}: Not a directory; choose another folder: --out DIR",
        (
            results,
            "--fig",
            "fig1",
            "--y",
            "loss",
        ): "unrecognized arguments: --y loss; see shine-plot --help",
        (): "the following arguments are required: results; see shine-plot --help",
    }
    for arguments, message in refused.items():
        assert shine_plot(*arguments) == (2, "", f"shine-plot: {message}\n")
    assert not (results / "figures").exists()
    (folder / "run.json").write_text("{")
    code, out, err = shine_plot(results)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert str(folder / "run.json") in err


def test_a_damaged_run_is_named_and_all_others_are_drawn(
    add_run, results: Path, shine_plot
) -> None:
    add_run("shine", 0, ROWS)
    damaged = [
        add_run("cg", seed, ROWS) / name for seed, name in enumerate(["run.json", "trace.csv"])
    ]
    for path in damaged:
        path.write_text("{")
    code, out, err = shine_plot(results, "--figure", "fig1")
    assert code == 2
    assert [line.split(" cannot be used: ")[0] for line in err.splitlines()] == [
        f"shine-plot: {p}" for p in damaged
    ]
    assert out.splitlines()[2].split()[:6] == ["logreg-20news", "shine", "1", "%", "1", "of"]
    assert (results / "figures" / "fig1.pdf").exists()


@pytest.mark.slow
def test_a_thousand_runs_of_which_one_is_damaged(add_run, results: Path, shine_plot) -> None:
    for method in ("shine", "cg", "jf", "grid"):
        for seed in range(250):
            rows = [(step, step, 1 / (1 + step), 0.5 + seed / 1000) for step in range(1, 32)]
            folder = add_run(method, seed, rows)
    (folder / "run.json").write_text("{")
    code, out, err = shine_plot(results, "--figure", "fig1")
    assert (code, err.count("\n")) == (2, 1)
    assert str(folder / "run.json") in err
    assert [line.split()[4:7] for line in out.splitlines() if " 1 % " in line] == [
        *([["250", "of", "250"]] * 1),
        ["249", "of", "249"],
        *([["250", "of", "250"]] * 2),
    ]


def test_a_figure_that_cannot_be_drawn_keeps_no_other_from_it(
    add_network, results: Path, shine_plot
) -> None:
    add_network("shine", 0, [{}] * 3)
    published = results / "paper" / "fig3.csv"
    published.parent.mkdir()
    published.write_text("series\n")
    code, out, err = shine_plot(results)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"shine-plot: {published}: its columns must be")
    assert "table-networks.csv" in out
    assert not (results / "figures" / "fig3.png").exists()


NAN = float("nan")


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        ([(0, 0, 0.9, 0.9)], "running"),
        ([(0, 0, 0.9, 0.9)], "done"),
        ([(0, 0, NAN, NAN), (1, 2, NAN, NAN)], "running"),
        ([(0, 0, NAN, NAN), (1, 2, NAN, NAN)], "diverged"),
        ([(0, 0, 0.0, 0.0), (0, 0, 0.0, 0.0)], "done"),
        ([(1, 1, 1e300, -1e308), (2, 2, 1e308, float("-inf"))], "done"),
    ],
    ids=["first row", "done at once", "NaN", "diverged at once", "zeros", "overflow"],
)
@pytest.mark.filterwarnings("error")
def test_few_or_odd_numbers_end_nothing(
    add_run, results: Path, shine_plot, rows, status: str
) -> None:
    add_run("shine", 0, rows, status=status)
    add_run("shine", 0, rows, status=status, differs={"problem.groups": 2}, suffix="-g")
    only = ["--figure", "curves", "--figure", "fig-groups"]
    assert shine_plot(results, *only)[::2] == (0, "")
    add_run("cg", 0, ROWS)
    code, out, err = shine_plot(results, *only[:2])
    assert (code, err) == (0, "")
    assert [line.split()[1:4] for line in out.splitlines() if " cg " in line] == [
        ["cg", "1", "%"],
        ["cg", "0.1", "%"],
    ]


@pytest.mark.filterwarnings("error")
def test_networks_and_studies_of_nothing_but_nan_end_nothing(
    add_run, add_network, results: Path, shine_plot
) -> None:
    numbers = (
        "test_loss",
        "accuracy",
        "spectral_radius",
        "forward_residual",
        "backward_residual",
        "backward_ms",
    )
    add_network("shine", 0, [dict.fromkeys(numbers, NAN)] * 2, status="diverged")
    add_network("jf", 0, [dict.fromkeys(numbers, NAN)] * 2)
    row = quality_row("_a $b$", "random", NAN, NAN)
    add_run("full", 0, [row], where=("mdeq", "digits_images"), outer="network_inversion")
    add_run("shine", 0, [row], outer="inversion_quality", suffix="-i")
    add_run("shine", 0, [row | {"tol": 0.1, "relative_error": NAN}], outer="theorem", suffix="-t")
    code, _, err = shine_plot(results)
    assert (code, err) == (0, "")
    written = {path.stem for path in (results / "figures").glob("*.pdf")}
    assert written == {"figE2", "fig2-right", "fig-theorem", "curves-mdeq-digits_images"}


ODD = (
    *(
        "$x$",
        "$x",
        "a$b$c^{",
        "²",
        "5²6",
        "_mine",
        "__",
        "%s %d",
        "{0}",
        "\\alpha",
        "#a",
        "two\nlines",
        "שלום",
    ),
    *(
        "日本語",
        "😀",
        "a|b",
        "a\\|b",
        'a, "b"',
        "*a*",
        "<b>",
        " ",
        "=1+1",
        "\x00",
        "\x1b[31m",
        "\ud800",
        "x" * 3000,
    ),
)


def rename(folder: Path, **change: object) -> None:
    """Change run.json, its choices by their names."""
    info = json.loads((folder / "run.json").read_text())
    info["choices"] |= {
        group: change.pop(group) for group in list(change) if group in info["choices"]
    }
    (folder / "run.json").write_text(json.dumps(info | change))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("what", ["method", "value", "data"])
def test_names_of_any_kind_are_shown_as_they_are(
    add_run, results: Path, shine_plot, what: str
) -> None:
    for number, name in enumerate(ODD):
        change = {"differs": {"solver.k": name}} if what == "value" else {what: name}
        rename(add_run("m", number, ROWS), **change)
    code, _, err = shine_plot(results, "--figure", "table" if what == "data" else "curves")
    assert (code, err) == (0, "")
    with (results / "figures" / "table.csv").open(newline="", encoding="utf-8") as file:
        written = {
            row["problem_data" if what == "data" else "method"] for row in csv.DictReader(file)
        }
    shown = {name if name.isprintable() else name.encode("unicode_escape").decode() for name in ODD}
    form = {"method": "NAME", "value": "m (solver.k=NAME)", "data": "logreg-NAME"}[what]
    assert written == {form.replace("NAME", name) for name in shown}
    lines = (results / "figures" / "table.md").read_text(encoding="utf-8").splitlines()
    bars = re.compile(r"(?<!\\)(?:\\\\)*\|")  # those that no backslash protects
    assert {len(bars.findall(line)) for line in lines[:-2]} == {13}


@pytest.mark.filterwarnings("error")
def test_odd_names_in_titles_and_estimates(add_run, results: Path, shine_plot) -> None:
    row = theorem_row("_a $b$", 0.1, 0.2, 0.9)
    for number, name in enumerate(("$x$ $y", "^{$\\", "x" * 3000, "日本語")):
        rename(add_run("m", number, [row], outer="theorem"), differs={"data.path": name})
    code, _, err = shine_plot(results, "--figure", "fig-theorem")
    assert (code, err) == (0, "")


def test_a_place_of_any_name_has_a_file_of_its_own(add_run, results: Path, shine_plot) -> None:
    for number, name in enumerate(("a/b", "a%2Fb", "../up", "y" * 300)):
        rename(add_run("m", number, ROWS), problem="p", data=name)
    code, _, err = shine_plot(results, "--figure", "curves")
    assert (code, err) == (0, "")
    names = sorted(path.name for path in (results / "figures").glob("*.png"))
    assert names[:3] == ["curves-p-..%2Fup.png", "curves-p-a%252Fb.png", "curves-p-a%2Fb.png"]
    assert len(names) == 4
    assert len(names[3]) < 255


def test_an_interrupt_leaves_whole_files_and_one_line(
    add_run, results: Path, shine_plot, monkeypatch
) -> None:
    add_run("shine", 0, ROWS)
    folder = results / "figures"
    assert shine_plot(results, "--figure", "fig1")[0] == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    add_run("cg", 0, ROWS)
    replace = os.replace

    def interrupted(source: Path, target: Path) -> None:
        if target.name == "fig1.pdf":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    code, out, err = shine_plot(results, "--figure", "fig1")
    assert (code, out) == (130, "")
    assert err == "shine-plot: interrupted; each file that it has written is whole\n"
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(after) == set(before)
    assert after["fig1.pdf"] == before["fig1.pdf"]
    assert after["fig1.png"] != before["fig1.png"]


def test_a_link_under_the_name_of_a_figure_is_replaced_not_followed(
    add_run, results: Path, shine_plot
) -> None:
    add_run("shine", 0, ROWS)
    outside = results / "outside"
    outside.write_text("mine")
    (results / "figures").mkdir()
    for name in ("table.csv", "fig1.png"):
        (results / "figures" / name).symlink_to(outside)
    assert shine_plot(results, "--figure", "fig1")[0] == 0
    assert outside.read_text() == "mine"
    assert (results / "figures" / "fig1.png").read_bytes().startswith(b"\x89PNG")


def test_a_figure_reads_only_its_own_runs_and_prints_only_its_own_lines(
    add_run, add_network, results: Path, shine_plot
) -> None:
    add_run("shine", 0, ROWS)
    add_run("cg", 0, ROWS, status="running")
    add_network("shine", 0, [{}] * 3)
    (add_network("jf", 0, [{}], status="interrupted") / "trace.csv").write_text("damaged")
    code, out, err = shine_plot(results, "--figure", "fig1")
    assert (code, err) == (0, "")
    assert "mdeq" not in out
    (add_run("jf", 0, ROWS) / "trace.csv").write_text("damaged")
    code, out, err = shine_plot(results, "--figure", "table-contractivity")
    assert (code, err.count("\n")) == (2, 1)
    assert [
        line.split("/")[-1] for line in out.splitlines() if "logreg" in line or "wrote" in line
    ] == [
        "table-contractivity.csv",
        "table-contractivity.md",
    ]


def test_runs_of_different_data_are_not_compared_without_a_word(
    add_run, results: Path, shine_plot
) -> None:
    for method, digest in (("shine", "a" * 64), ("cg", "b" * 64)):
        add_run(method, 0, ROWS, info={"data": {"digest": digest, "files": {}}})
    add_run("jf", 1, ROWS, info={"data": {"digest": "a" * 64}})
    code, out, err = shine_plot(results, "--figure", "fig1")
    assert code == 2
    which = "logreg-20news: seed 0 has runs of different data (shine aaaaaaaa, cg bbbbbbbb)"
    advice = "whose losses do not compare; keep the runs of one data set in a results folder"
    assert err == f"shine-plot: {which}, {advice}\n"
    assert "data not recorded" not in out


def test_output_to_a_terminal_without_our_characters(add_run, results: Path) -> None:
    add_run("shine", 0, ROWS)
    add_run("é", 0, ROWS, status="running")
    command = [sys.executable, "-m", "shine_exp.figures.command", str(results), "--figure", "table"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    ended = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert ended.stderr == b""
    assert rb"logreg-20news, \xe9: seed 0 running" in ended.stdout


def test_plot_command_version(shine_plot) -> None:
    assert shine_plot("--version") == (0, f"shine-plot {__version__}\n", "")


def test_help_lists_every_figure_with_its_claim(shine_plot) -> None:
    code, text, _ = shine_plot("--help")
    assert code == 0
    for figure in KNOWN:
        assert re.search(rf"^  {figure} +\w", text, flags=re.MULTILINE)
    for words in ("--x {time,products,steps}", "experiment=fig1", "curves-PROBLEM-DATA"):
        assert words in text
    assert max(map(len, text.splitlines())) <= 100


IMPORTED = """
import sys
from shine_exp.figures import command
sys.argv[1:] = sys.argv[1].split()
try:
    command.main()
except SystemExit:
    heavy = {"torch", "matplotlib", "scipy", "yaml", "hydra", "pandas", "numpy"}
    print("imported:", *sorted(heavy & set(sys.modules)))
"""


@pytest.mark.parametrize(
    ("arguments", "imported"), [("--help", ["numpy", "pandas"]), ("--version", []), ("--y", [])]
)
def test_help_and_refusals_import_little(arguments: str, imported: list[str]) -> None:
    command = [sys.executable, "-c", IMPORTED, arguments]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    assert ended.stdout.splitlines()[-1].split() == ["imported:", *imported]


def test_figures_of_the_paper_without_runs_are_one_line(add_run, results: Path, shine_plot) -> None:
    add_run("shine", 0, ROWS, where=("nls", "mine"))
    code, out, _ = shine_plot(results)
    assert code == 0
    (line,) = [line for line in out.splitlines() if "no finished runs" in line]
    assert line.startswith(
        "18 of the paper's figures and tables have no finished runs here (fig-architecture, "
    )
    assert line.endswith("); --figure NAME says how to make them")
    _, out, _ = shine_plot(results, "--figure", "fig1")
    assert "no finished runs on logreg-20news; make them with: shine-run -m experiment" in out

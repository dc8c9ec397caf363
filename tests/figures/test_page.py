"""The page: one file that loads nothing, whose text is text, which sorts, filters and opens."""

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from traces import theorem_row

from shine_exp.figures.page.curve import curve_of
from shine_exp.runs.run import load_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ROWS = [(0.5, 4, 1.0, 0.9), (1.5, 8, 0.5, 0.4), (2.5, 12, 0.1, 0.2)]
INJECTED = "\"'><script>document.title = 'owned'</script><img src=x onerror=\"document.title=1\">"
CLAIMS = f"""
- name: before
  claim: SHINE <b>is</b> before HOAG.
  source: figure 1
  verdict: agrees
  reading: {json.dumps(INJECTED)}
  measured:
    figure: fig1
    columns: [method, s to 1 %]
    headline: {{column: s to 1 %, names: [method]}}
- name: nothing
  claim: Nothing is known.
  source: ours
  verdict: open
  reading: No runs.
"""


class Elements(HTMLParser):
    """The tags of a page with their attributes, and its texts."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture
def page(add_run, results: Path, shine_plot) -> Path:
    """Of two methods, a run that failed, one that is damaged, and options of ill will."""
    (results / "claims.yaml").write_text(CLAIMS)
    for seed, method in enumerate(("shine", "cg", "jf")):
        add_run(method, 0, [(time + seed, *rest) for time, *rest in ROWS])
    add_run("shine", 1, ROWS, differs={"solver.k": INJECTED}, config={"k": INJECTED}, suffix="-i")
    add_run("m", 2, ROWS, status="failed", info={"reason": INJECTED, "host": INJECTED})
    add_run("shine", 3, [theorem_row(INJECTED, 0.1, 0.2, 0.9)], outer="theorem", suffix="-t")
    (add_run("cg", 4, ROWS) / "run.json").write_text("{")
    code, out, err = shine_plot(results, "--html")
    assert (code, out) == (2, f"wrote {results / 'figures' / 'index.html'}\n")
    assert err.count("\n") == 1  # of the damaged one
    return results / "figures" / "index.html"


def test_page_is_one_file_that_loads_nothing(page: Path) -> None:
    assert [path.name for path in page.parent.iterdir()] == ["index.html"]
    elements = Elements(page)
    assert {tag for tag, _ in elements.tags} & {"link", "iframe", "object", "embed"} == set()
    sources = [tag["src"] for tag in elements.named("img")]
    assert len(sources) == 5  # fig1, fig2-left, figE1, fig-theorem, curves
    for source in sources:
        kind, _, content = source.partition(",")
        assert kind == "data:image/svg+xml;base64"
        assert b"<svg" in base64.b64decode(content)
    links = {tag["href"] for tag in elements.named("a")}
    targets = {f"#{attributes['id']}" for _, attributes in elements.tags if "id" in attributes}
    assert links <= targets
    assert not re.search(r"url\(|@import", page.read_text())


def test_text_of_runs_is_text(page: Path) -> None:
    elements = Elements(page)
    (script,) = elements.named("script")
    assert script == {}
    handlers = [name for _, tag in elements.tags for name in tag if name.startswith("on")]
    assert handlers == []
    assert elements.text.count("<script>document.title") >= 5  # shown as it is written
    assert "SHINE <b>is</b> before HOAG." in elements.text


def test_page_can_be_read_without_a_script(page: Path) -> None:
    text = Elements(page).text
    assert "✓ 1 agrees … 1 open" in text
    assert "7 runs in" in text
    assert "5 done, 1 failed, 1 damaged." in text
    assert re.search(r"SHINE 2\.5 HOAG 3\.5 .* s to 1 %", text)
    assert "shine-run problem=logreg data=20news method=cg seed=0" in text
    assert "Made by shine-run -m experiment=fig1" in text
    assert "no finished runs on problem" not in text
    assert "seed: 0" in text  # its configuration


def test_same_results_give_the_same_page(page: Path, results: Path, shine_plot) -> None:
    before = page.read_bytes()
    shine_plot(results, "--html")
    assert page.read_bytes() == before


def test_curve_of_a_run(add_run) -> None:
    curve = curve_of(load_run(add_run("shine", 0, ROWS)))
    assert curve is not None
    assert [line.name for line in curve.lines] == ["outer loss", "held-out loss"]
    assert (curve.low, curve.high, curve.end) == ("0.1", "1", "2.5 s")
    assert curve.lines[0].points == "120.0,0.0 360.0,111.1 600.0,200.0"
    rows = [(1, 1, float("nan"), 1.0), (2, 2, 1e-3, float("inf")), (3, 3, 1e-5, 1e-5)]
    curve = curve_of(load_run(add_run("cg", 0, rows)))
    assert curve is not None
    assert curve.logarithmic
    assert curve.lines[0].points == "400.0,120.0 600.0,200.0"
    assert curve_of(load_run(add_run("jf", 0, ROWS[:1]))) is None
    assert curve_of(load_run(add_run("jf", 1, [theorem_row("jf", 1, 1, 1)] * 2))) is None


def test_only_one_kind_of_output_at_a_time(results: Path, shine_plot) -> None:
    code, _, err = shine_plot(results, "--html", "--figure", "fig1")
    assert (code, err.count("\n")) == (2, 1)
    assert "--html" in err


def in_browser(page: Path, profile: Path) -> str:
    """What the page has become once its scripts have run."""
    assert CHROMIUM is not None
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}")
    command = [CHROMIUM, *options, "--virtual-time-budget=2000", "--dump-dom", page.as_uri()]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return ended.stdout


DRIVER = """
const told = {};
const column = (rows, place) => [...rows].map((row) => row.children[place].textContent);
const table = document.querySelector("#before table");
const click = (header) => header.querySelector("button").click();
click(table.tHead.rows[0].cells[1]);
told.up = column(table.tBodies[0].rows, 0);
click(table.tHead.rows[0].cells[1]);
told.down = column(table.tBodies[0].rows, 0);
const runs = () => [...document.querySelectorAll("details.run:not([hidden]) > summary")];
click(document.querySelector(".runs .head").children[2]);
told.methods = column(runs(), 2).filter((name) => name);
const filter = document.querySelector("input.filter");
filter.value = "hoag seed=0";
filter.dispatchEvent(new Event("input"));
told.shown = runs().length;
location.hash = "#claim-nothing";
setTimeout(() => {
  told.open = [...document.querySelectorAll("details.claim[open]")].map((each) => each.id);
  document.title = JSON.stringify(told);
}, 100);
"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")
def test_page_in_a_browser(page: Path, tmp_path: Path) -> None:
    dom = in_browser(page, tmp_path / "profile")
    assert '<input class="filter"' in dom  # its own script has run
    assert f"<title>{page.parent.parent} – shine_exp</title>" in dom  # and no other
    driven = tmp_path / "driven.html"
    text = page.read_text().replace('id="claim-before"', 'id="before"')
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    driven.write_text(text.replace("</body>", f"<script>{{{DRIVER}}}</script></body>"))
    (found,) = re.findall(r"<title>(.*)</title>", in_browser(driven, tmp_path / "profile"))
    told = json.loads(found)
    assert told["up"] == ["SHINE", "HOAG", "Jacobian-Free"]
    assert told["down"] == told["up"][::-1]
    assert told["methods"] == sorted(told["methods"], key=str.lower)
    assert told["shown"] == 1
    assert told["open"] == ["claim-nothing"]

"""The page of `baton report`, of a real run: it holds what was collected, loads nothing, and works in a browser."""

import html.parser
import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import rich.console

from recipes import cli, run, summary
from recipes.report import collect, folders, graph, page

ROOT = pathlib.Path(__file__).parent.parent.parent
EVALUATED = ("recipe.Stage.evaluate=(@recipe.Evaluate(),)", "recipe.Evaluate.name='held_out'")
COMPARE = "recipe.Recipe.compare=(('both', ('unfrozen',), ('mlm', 'frozen')),)"
VOID = {"meta", "link", "input", "wbr", "br"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = rich.console.Console(quiet=True)

DRIVER = """<script>{
const said = [];
Element.prototype.setPointerCapture = () => {};
const lines = (id) => document.querySelectorAll(`#${id} path.line`).length;
const ticks = () => [...document.querySelectorAll("#loss text.axis[text-anchor=middle]")].map((text) => text.textContent);
const send = (type, x) => {
  const host = document.querySelector("#loss"), box = host.getBoundingClientRect();
  host.dispatchEvent(new PointerEvent(type, {clientX: box.left + x * box.width, clientY: box.top + 50, bubbles: true}));
};
said.push(["lines", ...["loss", "rate", "parts", "figures"].map(lines)]);
send("pointermove", 0.05);
said.push(["read", document.querySelector("#loss .read").textContent]);
const whole = ticks();
send("pointerdown", 0.3); send("pointermove", 0.5); send("pointerup", 0.5);
said.push(["zoomed", String(ticks()) !== String(whole), !document.querySelector("#reset").hidden]);
document.querySelector("#loss").dispatchEvent(new KeyboardEvent("keydown", {key: "0"}));
said.push(["whole", String(ticks()) === String(whole)]);
const before = lines("loss");
document.querySelector("#legend button").click();
said.push(["legend", before - lines("loss") > 0, document.querySelector("#legend button").getAttribute("aria-pressed")]);
document.querySelector("[name=axis][value=flops]").click();
said.push(["flops", String(ticks()) !== String(whole), lines("loss") > 0]);
document.querySelector("#smoothing").value = 10;
document.querySelector("#smoothing").dispatchEvent(new Event("input"));
said.push(["smoothed", document.querySelector("#smoothed").textContent]);
said.push(["wide", innerWidth, document.documentElement.scrollWidth <= innerWidth]);
parent.postMessage(JSON.stringify(said), "*");
}</script>"""
FRAME = """<!doctype html><body><script>onmessage = ({data}) => { document.body.dataset.said = data; };</script>
<iframe src="report.html" style="border:0;width:%dpx;height:%dpx"></iframe>"""


class Reader(html.parser.HTMLParser):
    """Checks that elements nest; keeps attributes, ids and the text of scripts."""

    def __init__(self):
        super().__init__()
        self.open, self.attributes, self.ids, self.data, self.faults = [], [], [], "", []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        if self.open and self.open[-1][0] == tag:
            self.open.pop()
        elif tag not in VOID:
            self.faults.append((tag, self.getpos()))

    def handle_data(self, data):
        if self.open and self.open[-1] == ("script", {"type": "application/json", "id": "data"}):
            self.data += data


def parsed(text):
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.faults and not reader.open
    return reader


@pytest.fixture(scope="module")
def resolved(tiny):
    return tiny(COMPARE, *EVALUATED)


@pytest.fixture(scope="module")
def workdir(resolved, tmp_path_factory):
    """A finished run of the shipped recipe, shrunk."""
    folder = tmp_path_factory.mktemp("finished")
    run.run(resolved, str(folder), console=QUIET)
    return folder


@pytest.fixture(scope="module")
def collected(workdir):
    return collect.collect(folders.find([f"one={workdir}"]))


def test_figures_are_those_of_the_run_s_own_summary(resolved, workdir, collected):
    stages = {stage["name"]: stage for stage in collected["runs"][0]["stages"]}
    rows = summary.stages(resolved.value, str(workdir))
    assert [row["name"] for row in rows] == list(stages)
    for row in rows:
        found = stages[row["name"]]
        assert found["parameters"] == {"total": row["params"], "trainable": row["trainable_params"]}
        assert found["final"] == row["scores"] and found["step"] == row["steps"]
        assert found["spent"] == {name: row[name] for name in ("tokens", "flops", "training_units")}
    assert stages["frozen"]["parameters"]["trainable"] < stages["frozen"]["parameters"]["total"]
    (saving,) = summary.savings(resolved.value, str(workdir))
    (each,) = collected["runs"][0]["comparisons"]
    assert each["saved"]["flops"] == saving.saved.flops and each["cheap"]["flops"] == saving.cheap.flops
    shares = {part["name"]: part["share"] for part in stages["mlm"]["blend"]["parts"]}
    data = resolved.value.stages[0].data
    wanted = data.shares(tuple(part.tokens for part in data.open()))
    assert shares == pytest.approx(dict(zip(data.parts(), wanted)), rel=1e-5)


def test_the_page_is_whole_and_holds_what_was_collected(collected):
    reader = parsed(page.render(collected))
    assert json.loads(reader.data) == collected
    assert len(reader.ids) == len(set(reader.ids))
    assert {"summary", "lineage", "curves", "blend", "compute", "scores", "recipe", "environment"} <= set(reader.ids)
    links = {value[1:] for tag, name, value in reader.attributes if (tag, name) == ("a", "href")}
    assert links <= set(reader.ids) and len(links) == 7


def test_the_page_loads_nothing(collected):
    text = page.render(collected)
    loads = [each for each in parsed(text).attributes if each[1] in ("src", "href", "srcset", "action", "data")]
    assert all(value.startswith(("#", "data:")) for *_, value in loads) and len(loads) > 1
    for name in ("page.html", "style.css", "chart.js", "page.js"):
        source = (pathlib.Path(page.__file__).parent / name).read_text()
        assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)|fetch\(|XMLHttp|WebSocket", source), name


def test_names_cannot_break_out_of_the_page(collected):
    evil = '</script><img src=x onerror=alert(1)> & "quoted"'
    said = json.loads(json.dumps(collected))
    said["runs"][0] |= {"name": evil, "recipe": evil, "notes": [evil]}
    for stage in said["runs"][0]["stages"]:
        stage |= {"name": evil, "notes": [evil], "commit": evil}
    said["groups"] = [{**group, "model": evil, "task": evil} for group in said["groups"]]
    text = page.render(said)
    reader = parsed(text)
    assert json.loads(reader.data) == said
    assert "img" not in {tag for tag, *_ in reader.attributes} and text.count("<img") == 0


def test_the_lineage_shows_handoffs_and_models_of_other_runs(collected):
    said = json.loads(json.dumps(collected["runs"][0]))
    nodes = graph.forest(said, {})
    assert {name: node.parent for name, node in nodes.items()} == {"mlm": None, "frozen": "mlm", "unfrozen": "frozen"}
    assert [node.depth for node in nodes.values()] == [0, 1, 2] and {node.row for node in nodes.values()} == {0}
    made = said["stages"][1]["handoff"]
    assert nodes["frozen"].edge == tuple(f"{graph.markup.count(made[k])} {k}" for k in ("copied", "fresh", "dropped"))
    outside = said["stages"][1]["lineage"][0] | {"recipe": "old", "params_digest": "other", "flops": 3e15}
    said["stages"][1]["lineage"] = [outside]
    nodes = graph.forest(said, {})
    assert nodes["frozen"].parent == "old: mlm, step 12" and nodes["old: mlm, step 12"].style == "outside"
    assert "3.00×10¹⁵ FLOPs" in graph.draw(said, {}) and nodes["mlm"].row != nodes["frozen"].row


def test_several_runs_stand_side_by_side(workdir, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(workdir, other)
    gin = (other / "recipe.gin").read_text()
    (other / "recipe.gin").write_text(gin.replace("MLM_STEPS = 12", "MLM_STEPS = 13"))
    data = collect.collect(folders.find([f"one={workdir}", str(other)]))
    text = page.render(data)
    assert "1 bindings differ" in text and "<td class=mark>13</td>" in text
    assert "one: mlm" in text and "other: mlm" in text and parsed(text)
    assert any("MLM_STEPS = 12, now 13" in line for line in data["runs"][1]["stages"][0]["notes"])


def test_the_command_writes_replaces_and_prints(workdir, tmp_path, capsys):
    out = tmp_path / "report.html"
    for _ in range(2):
        assert cli.main(["report", str(workdir), "--out", str(out)]) == 0
        assert "1 runs, 3 stages" in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert cli.main(["report", str(workdir), "--json", "--out", "no/such/folder/x.html"]) == 0
    printed = json.loads(capsys.readouterr().out)
    shown = json.loads(parsed(out.read_text()).data)
    assert printed["runs"] == shown["runs"] and printed["results"] == shown["results"]


def test_a_report_needs_neither_jax_nor_tensorflow(workdir):
    code = (
        "import sys; from recipes import cli; cli.main(['report', sys.argv[1], '--json']); "
        "print([name for name in ('jax', 'tensorflow', 'gin') if name in sys.modules], file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", code, str(workdir)], cwd=ROOT, capture_output=True, text=True)
    assert found.stderr.strip() == "[]"


@pytest.mark.parametrize("name", ["chart.js", "page.js"])
def test_scripts_are_sound(name):
    # Neither node nor a browser can be had from the lock.
    if shutil.which("node") is None:
        pytest.skip("no node to check the scripts' syntax with")
    source = pathlib.Path(page.__file__).parent / name
    assert len(source.read_text().splitlines()) <= 300
    subprocess.run(["node", "--check", str(source)], check=True)


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_it_works_in_a_browser(collected, tmp_path, width, height):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser among {', '.join(BROWSERS)}")
    file = tmp_path / "report.html"
    file.write_text(page.render(collected).replace("</body>", DRIVER + "</body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"]
    flags += ["--enable-logging=stderr", "--window-size=1400,1000", "--virtual-time-budget=4000", "--dump-dom"]
    # A window can't be as narrow as a phone; a frame can.
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME % (width, height))
    made = subprocess.run([browser, *flags, frame.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in made.stderr, made.stderr[-2000:]
    said = re.search(r'data-said="([^"]*)"', made.stdout)
    assert said, made.stderr[-2000:]
    lines, read, zoomed, whole, legend, flops, smoothed, wide = json.loads(html.unescape(said[1]))
    assert all(count > 0 for count in lines[1:])
    assert "steps" in read[1] and "mlm" in read[1]
    assert zoomed == ["zoomed", True, True] and whole == ["whole", True]
    assert legend == ["legend", True, "false"] and flops == ["flops", True, True]
    assert smoothed[1].startswith("10") and wide == ["wide", width, True]

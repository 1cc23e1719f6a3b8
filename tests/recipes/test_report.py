"""What `baton report` collects from work directories: made-up ones, whole, running, cut short and damaged."""

import json
import random
import statistics

import pytest
import scipy.stats

from recipes import cli
from recipes.report import bindings, collect, differences, folders, metrics, saved

NOW = 2_000_000.0
GIN = """from __gin__ import dynamic_registration

# Macros:
# ======
SEED = {seed}
STEPS = 40

mlm/blend.Blend.alpha = 0.5
mlm/blend.Blend.rates = (('de', 3.0), ('en', 1.0))
mlm/blend.Blend.split = 'train'
mlm/blend.Blend.store = 'no/such/store'
recipe.Recipe.compare = \\
    (('both', ('seq',), ('mlm', 'alone')),)
recipe.Recipe.name = 'made'
recipe.Recipe.stages = \\
    (@mlm/recipe.Stage(),
     @seq/recipe.Stage(), @alone/recipe.Stage())
mlm/recipe.Stage.name = 'mlm'
mlm/recipe.Stage.data = @blend.Blend()
mlm/recipe.Stage.steps = %STEPS
mlm/recipe.Stage.seed = %SEED
mlm/recipe.Stage.frozen = ()
seq/recipe.Stage.name = 'seq'
seq/recipe.Stage.steps = %STEPS
seq/recipe.Stage.seed = %SEED
seq/recipe.Stage.start = @hand/recipe.Handoff()
seq/recipe.Stage.frozen = ('encoder/.*',)
hand/recipe.Handoff.source = 'mlm'
alone/recipe.Stage.name = 'alone'
alone/recipe.Stage.seed = %SEED
alone/recipe.Stage.steps = %STEPS
"""
COSTS = {"mlm": 6.0, "seq": 5.0, "alone": 9.0}


def stage(root, name, *, lineage=(), step=40, done=True, gin=None, loss=3.0, recipe="made"):
    """Writes one stage as a run leaves it: a checkpoint, metrics, `done`."""
    folder, units = root / name, COSTS[name.split(".")[0]] * step / 40
    spent = {"tokens": 10 * step, "flops": 1e12 * units, "training_units": units}
    digest = f"{root.name}-{name}-{step}"
    parent = {"directory": str(root / lineage[-1]["stage"]), "step": 40, "params_digest": "d"} if lineage else None
    handoff = {"copied": 12, "fresh": 6, "dropped": 4, "carry": []} if lineage else None
    manifest = {
        "format": 1, "recipe": recipe, "stage": name, "step": step, "steps": 40, "clock": 0, "lineage": list(lineage),
        "start": {"origin": "handoff" if lineage else "scratch", "parent": parent, "handoff": handoff},
        "spent": spent, "skipped": 1, "streak": 0, "params_digest": digest, "vocabulary": "v",
        "model": {"kind": "encoder", "config": "Encoder()"}, "gin": {"hash": "h", "text": gin or GIN.format(seed=0)},
        "versions": {"jax": "1.2"}, "commit": "abc", "device": "TPU v9",
    }  # fmt: skip
    at = folder / "checkpoints" / str(step)
    for path, shape in (("encoder.kernel", [3, 4]), ("decoder.kernel", [2, 3])):
        (at / "params" / path).mkdir(parents=True)
        (at / "params" / path / ".zarray").write_text(json.dumps({"shape": shape}))
    (at / "manifest").mkdir()
    (at / "manifest" / "metadata").write_text(json.dumps(manifest))
    files = [file for file in at.rglob("*") if file.is_file()]
    (at / "complete").write_text(json.dumps({str(f.relative_to(at)): {"bytes": f.stat().st_size} for f in files}))
    lines = [{"step": k, "time": NOW - 9000 + k, "loss": loss + 1 / k, "loss/de": loss, "tokens_per_second": 100.0 * k,
              "learning_rate": 0.1, "waiting": 0.25} for k in range(10, step + 1, 10)]  # fmt: skip
    scores = {"held_out/loss": loss, "held_out/f1/de": loss / 10}
    lines.append({"step": step, "time": NOW - 8000, **scores})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "events.out.tfevents.1.2.baton").touch()
    if done:
        record = {"recipe": recipe, "stage": name, "step": step, "spent": spent, "params_digest": digest}
        (folder / "done").write_text(json.dumps(record | {"scores": scores}))
    return {"recipe": recipe, "stage": name, "step": step, "params_digest": digest, "gin_hash": "h", **spent}


def run(root, *, seed=0, loss=3.0):
    """A finished work directory of three stages."""
    gin = GIN.format(seed=seed)
    root.mkdir(parents=True)
    (root / "recipe.gin").write_text(gin)
    first = stage(root, "mlm", gin=gin, loss=loss)
    stage(root, "seq", lineage=[first], gin=gin, loss=loss)
    stage(root, "alone", gin=gin, loss=loss)
    return root


def read(*given):
    return collect.collect(folders.find([str(each) for each in given]), NOW)


def stages_of(data):
    return {each["name"]: each for each in data["runs"][0]["stages"]}


def test_a_finished_run_is_told_from_its_files(tmp_path):
    data = read(run(tmp_path / "a"))
    found = stages_of(data)
    assert list(found) == ["mlm", "seq", "alone"] and data["runs"][0]["recipe"] == "made"
    assert {each["state"] for each in found.values()} == {"done"} and data["runs"][0]["state"] == "done"
    assert found["mlm"]["parameters"] == {"total": 18, "trainable": 18}
    assert found["seq"]["parameters"] == {"total": 18, "trainable": 6}
    assert found["seq"]["handoff"]["fresh"] == 6 and found["seq"]["planned_parent"] == "mlm"
    assert found["mlm"]["speed"] == {"tokens_per_second": 2500.0, "waiting": 0.25, "seconds": 990}
    assert found["mlm"]["other"] == {"device": "TPU v9"}, "what a manifest has besides is shown as it is"
    assert found["mlm"]["seed"] == 0 and found["mlm"]["steps"] == 40
    assert [(part["name"], part["share"]) for part in found["mlm"]["blend"]["parts"]] == [("de", 0.75), ("en", 0.25)]
    assert found["seq"]["blend"] is None, "a stage whose data the recipe doesn't tell has none"
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_comparisons_count_a_shared_stage_once_and_the_paper_s_share(tmp_path):
    each = read(run(tmp_path / "a"))["runs"][0]["comparisons"][0]
    assert (each["cheap"]["training_units"], each["dear"]["training_units"]) == (11.0, 15.0)
    assert each["saved"]["training_units"] == pytest.approx(4 / 15) and each["open"] == []
    assert [part["stage"] for part in each["cheap"]["parts"]] == ["mlm", "seq"]


def test_earlier_models_of_other_runs_are_counted_once(tmp_path):
    run(tmp_path / "a")
    entry = {"recipe": "old", "stage": "mlm", "step": 9, "params_digest": "x", "gin_hash": "y"}
    outside = entry | {"tokens": 5.0, "flops": 2e12, "training_units": 2.0}
    (tmp_path / "b").mkdir()
    stage(tmp_path / "b", "seq", lineage=[outside])
    stage(tmp_path / "b", "alone", lineage=[outside])
    total = read(tmp_path / "b")["runs"][0]["total"]
    assert (total["own"]["training_units"], total["inherited"]["training_units"]) == (14.0, 2.0)
    assert total["all"]["training_units"] == 16.0
    assert read(tmp_path / "a")["runs"][0]["total"]["inherited"]["training_units"] == 0


def test_running_stopped_and_not_begun_stages_are_told_apart(tmp_path):
    root = run(tmp_path / "a")
    (root / "seq" / "done").unlink()
    (root / "alone" / "done").unlink()
    for name in ("checkpoints", "metrics.jsonl", "events.out.tfevents.1.2.baton"):
        (root / "alone" / name).rename(tmp_path / name)
    (root / "alone").rmdir()
    folder = folders.find([str(root)])
    written = (root / "seq").stat().st_mtime
    for now, state in ((written + 5, "running"), (written + 86400, "stopped")):
        data = collect.collect(folder, now)
        assert [each["state"] for each in data["runs"][0]["stages"]] == ["done", state, "not begun"]
        assert data["runs"][0]["state"] == state
        assert data["runs"][0]["comparisons"][0]["open"] == ["seq", "alone"]
        assert data["runs"][0]["comparisons"][0]["saved"] is None


def test_a_stage_without_a_checkpoint_yet_descends_from_what_its_handoff_names(tmp_path):
    root = run(tmp_path / "a")
    (root / "seq" / "done").unlink()
    (root / "seq" / "checkpoints").rename(tmp_path / "checkpoints")
    assert stages_of(read(root))["seq"]["lineage"] == []
    parent = {"directory": "elsewhere/mlm", "step": 40, "params_digest": "a-mlm-40"}
    handed = {"parameters": {"copied": 12, "fresh": 6, "dropped": 4}}
    (root / "seq" / "handoff.json").write_text(json.dumps(parent | handed))
    found = stages_of(read(root))["seq"]
    assert [entry["stage"] for entry in found["lineage"]] == ["mlm"] and found["lineage"][0]["tokens"] == 400
    assert found["handoff"] == handed["parameters"] and found["spent"] is None and found["known"] == []


def test_a_line_cut_short_is_left_out_and_told(tmp_path):
    root = run(tmp_path / "a")
    with (root / "mlm" / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 50, "lo\xff')
    found = stages_of(read(root))["mlm"]
    assert found["metrics"]["cut"] == 1 and found["metrics"]["train"]["step"] == [10, 20, 30, 40]
    assert found["notes"] == ["metrics.jsonl: 1 cut short or unreadable, left out"]


def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(tmp_path):
    root = run(tmp_path / "a")
    stage(root, "seq.late", step=20)
    (root / "seq.late" / "checkpoints" / "20").rename(root / "seq" / "checkpoints" / "20")
    file = root / "seq" / "checkpoints" / "40" / "params" / "decoder.kernel" / ".zarray"
    file.write_text(file.read_text() + " ")
    found = stages_of(read(root))["seq"]
    assert found["saved_step"] == 20 and found["spent"]["tokens"] == 400, "what is done has been paid for"
    assert "the checkpoint of step 40 is damaged: params/decoder.kernel/.zarray has 18 bytes" in found["notes"][0]
    file.unlink()
    assert "decoder.kernel/.zarray is missing" in (saved.fault(folders.epath.Path(file.parents[2])) or "")


def test_no_cut_of_any_file_brings_it_down(tmp_path):
    draw = random.Random(3)
    for number in range(60):
        root = run(tmp_path / str(number))
        files = sorted(file for file in root.rglob("*") if file.is_file() and file.stat().st_size)
        file = draw.choice(files)
        file.write_bytes(file.read_bytes()[: draw.randrange(file.stat().st_size)])
        data = read(root)
        assert len(data["runs"][0]["stages"]) >= 1
        json.dumps(data, allow_nan=False)


def test_numbers_that_are_not_finite_are_counted_not_shown(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1, "loss": NaN}\n{"step": 2, "loss": 2.5, "grad_norm": Infinity}\n')
    found = metrics.read(folders.epath.Path(file))
    assert found["not_finite"] == 2
    assert found["train"] == {"step": [1, 2], "loss": [None, 2.5], "grad_norm": [None, None]}


def test_thinning_keeps_the_ends_and_the_peaks():
    lines = [{"step": k, "loss": 1.0 if k != 7777 else 9.0} for k in range(50_000)]
    kept = metrics.thin(lines, "loss")
    assert len(kept) <= metrics.LIMIT + 2 and kept[-1] == lines[-1] and lines[7777] in kept
    assert [line["step"] for line in kept] == sorted(line["step"] for line in kept)


def test_runs_that_differ_in_seeds_alone_are_repeats(tmp_path):
    roots = [run(tmp_path / f"s{seed}", seed=seed, loss=loss) for seed, loss in enumerate((3.0, 3.2, 3.7))]
    data = read(*roots)
    group = next(each for each in data["groups"] if each["metric"] == "f1" and each["model"] == "seq")
    assert (group["task"], group["language"], group["seeds"], group["n"]) == ("held_out", "de", [0, 1, 2], 3)
    low, high = scipy.stats.t.interval(
        0.95, 2, statistics.fmean(group["values"]), statistics.stdev(group["values"]) / 3**0.5
    )
    assert group["mean"] - group["half"] == pytest.approx(low) and group["mean"] + group["half"] == pytest.approx(high)
    assert set(data["results"][0]) == {"model", "task", "metric", "language", "seed", "value"}
    text = GIN.format(seed=5).replace("STEPS = 40", "STEPS = 41")
    (roots[2] / "recipe.gin").write_text(text)
    models = {each["model"] for each in read(*roots)["results"]}
    assert "s0, s1: seq" in models and "s2: seq" in models


def test_scores_of_eval_and_stages_named_by_seed_are_repeats(tmp_path):
    root = run(tmp_path / "a")
    said = {"task": "ner", "figure": "f1", "rate": 0.1, "rates": {"0.1": 0.7, "0.2": 0.6}, "source": {"step": 40}}
    runs = [{"seed": k, "scores": {"test/f1": 0.5 + k / 10, "test/f1/de": 0.4, "dev/f1": 0.9}} for k in range(2)]
    (root / "mlm" / "eval" / "ner").mkdir(parents=True)
    (root / "mlm" / "eval" / "ner" / "scores.json").write_text(json.dumps(said | {"runs": runs}))
    for seed in (0, 1):
        stage(root, f"alone.seed_{seed}", loss=2.0 + seed)
    groups = {(each["model"], each["task"], each["metric"], each["language"]): each for each in read(root)["groups"]}
    assert groups["mlm", "ner", "f1", None]["values"] == [0.5, 0.6] and groups["mlm", "ner", "f1", "de"]["n"] == 2
    assert groups["alone", "held_out", "loss", None]["seeds"] == [0, 1]


def test_bindings_are_read_aligned_and_resolved():
    one, other = GIN.format(seed=1), GIN.format(seed=2) + "late/recipe.Stage.steps = 3\n"
    found = bindings.Bindings(one)
    assert found.value("mlm/recipe.Stage.seed") == 1 and found.value("recipe.Recipe.compare")[0][1] == ("seq",)
    assert found.value("mlm/recipe.Stage.data") is None and found.value("no.such") is None
    assert found.reference("seq/recipe.Stage.start", "seq") == ("hand", "recipe.Handoff")
    assert found.stages() == {"mlm": "mlm", "seq": "seq", "alone": "alone"}
    rows = differences.aligned({"a": one, "b": other})
    changed = {row["key"]: row["values"] for row in rows if row["differs"]}
    assert changed == {"SEED": ["1", "2"], "late/recipe.Stage.steps": [None, "3"]}
    assert [row["key"] for row in rows] == list(bindings.Bindings(other))


MISTAKES = [
    ("report", "the following arguments are required: WORKDIR"),
    ("report nowhere", "there is no work directory 'nowhere'; give the --workdir of a `baton run`"),
    ("report a x=nowhere", "there is no work directory 'nowhere'"),
    ("report note.txt", "note.txt is a file; give the work directory"),
    ("report empty", "empty is no work directory: it holds neither recipe.gin nor a stage"),
    ("report a/mlm", "a/mlm is one stage; give its work directory, a"),
    ("report a b/a", "two work directories are named 'a': a and b/a; tell them apart with NAME=WORKDIR"),
    ("report a --out note.txt", "--out note.txt is there and is no report of baton; name another file or move it away"),
    ("report a --out no/such/r.html", "there is no directory 'no/such'; make it first"),
    ("report a --out empty", "--out empty is a directory"),
]


@pytest.mark.parametrize(("line", "message"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_one_line_and_writes_nothing(line, message, tmp_path, monkeypatch, capsys):
    run(tmp_path / "a")
    run(tmp_path / "b" / "a")
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    try:
        code = cli.main(line.split())
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr()
    assert code == 2 and said.out == ""
    assert said.err.startswith("baton: ") and message in said.err and said.err.count("\n") == 1
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before

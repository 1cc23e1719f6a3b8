"""Text corrupted beforehand: training on it is training the pair's main encoder; kills, damage and misuse are noticed."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import rich.console

from models import encoder, pair
from recipes import checkpoint, cli, config, corrupt, epochs, leafwise, recipe, run
from tasks import corrupted, corrupted_store, manifest, preview

QUIET = rich.console.Console(quiet=True)
HELD = recipe.Evaluate(name="held", batches=2)


def params(workdir, stage):
    root = workdir / stage / "checkpoints" / str(checkpoint.manifest(workdir / stage)["step"])
    return checkpoint.read(root, checkpoint.abstract(root))


def changed(resolved, stage, **fields):
    """The recipe with some fields of one stage changed."""
    stages = tuple(
        dataclasses.replace(each, **fields) if each.name == stage else each for each in resolved.value.stages
    )
    return dataclasses.replace(resolved, value=dataclasses.replace(resolved.value, stages=stages))


@pytest.fixture(scope="module", autouse=True)
def quick_compiler():
    """Compiles in half the time, for models too small to run long."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def before(tiny, tmp_path_factory):
    """A work directory in which stage `mlm` has run."""
    workdir = tmp_path_factory.mktemp("before")
    run.run(tiny(name="metro/fast_electra"), str(workdir), until="mlm", console=QUIET)
    return workdir


@pytest.fixture(scope="module")
def written(store, before):
    """The store of that stage's text, written by the command without interruption."""
    line = ONLINE.replace("{store}", store).replace("{out}", str(before / "corrupted"))
    assert cli.main((line + STAGE.replace("{before}", str(before))).split(" ")) == 0
    return before / "corrupted"


def alone(store, *overrides):
    given = [f"STORE='{store}'", "VOCABULARY=384", *overrides]
    return config.load("metro/fast_electra_offline", given, overlays=["gin/tiny.gin"])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_offline_stage_learns_what_the_online_one_does(tiny, before, tmp_path, accumulate):
    fields = {"accumulate": accumulate, "batch": 8 * accumulate, "evaluate": (HELD,), "steps": 6}
    online = changed(tiny(name="metro/fast_electra"), "fast_electra", **fields)
    pairs = online.value.stage("fast_electra")
    workdir, out = tmp_path / "online", str(tmp_path / "corrupted")
    shutil.copytree(before / "mlm", workdir / "mlm")
    shutil.copy(before / "recipe.gin", workdir / "recipe.gin")
    done = run.run(online, str(workdir), allow_config_change=True, console=QUIET)
    for split, count in (("train", None), ("validation", 2)):
        corrupt.corrupt(
            online, "fast_electra", out, workdir=str(workdir), split=split, batches=count, chunk=600, console=QUIET
        )

    offline = alone(out)
    model = offline.value.stages[0].model
    first = pairs.model.side("main", pairs.model.init(jax.random.key(pairs.seed)))
    with leafwise.Writer(tmp_path / "start", 0, checkpoint.manifest(workdir / "mlm") | {"step": 0}) as writer:
        for path, value in first.items():
            writer.put(path, np.asarray(value))
    start = recipe.Handoff(source=str(tmp_path / "start"))
    offline = changed(offline, "fast_electra_offline", start=start, **fields)
    assert isinstance(model, encoder.Encoder) and model.stack == pairs.model.main and model.stack.dropout > 0
    assert isinstance(pairs.model, pair.Pair) and any("auxiliary/" in path for path in pairs.model.abstract())
    assert not any("auxiliary" in path for path in model.abstract())

    apart = run.run(offline, str(tmp_path / "offline"), console=QUIET)
    ours, theirs = params(tmp_path / "offline", "fast_electra_offline"), params(workdir, "fast_electra")
    moved = 0.0
    for path, value in ours.items():
        np.testing.assert_allclose(value, theirs[f"main/{path}"], atol=1e-5, err_msg=path)
        moved = max(moved, float(np.abs(value - first[path]).max()))
    assert moved > 1e-3 and {f"main/{path}" for path in ours} == {path for path in theirs if path.startswith("main/")}
    scores = done["fast_electra"]["scores"]
    for name, value in apart["fast_electra_offline"]["scores"].items():
        assert value == pytest.approx(scores[name], rel=1e-3), name
    assert apart["fast_electra_offline"]["spent"]["flops"] < 0.95 * done["fast_electra"]["spent"]["flops"]


def test_a_stage_on_a_store_resumes_where_it_stopped(written, tmp_path):
    resolved = alone(written, "Save.steps=3")
    straight = run.run(resolved, str(tmp_path / "straight"), console=QUIET)
    half = tmp_path / "half" / "fast_electra_offline"
    shutil.copytree(tmp_path / "straight", tmp_path / "half")
    (half / "done").unlink()
    assert checkpoint.steps(half / "checkpoints")[-2] == 6
    shutil.rmtree(half / "checkpoints" / "8")
    again = run.run(resolved, str(tmp_path / "half"), console=QUIET)
    name = "fast_electra_offline"
    assert again[name]["params_digest"] == straight[name]["params_digest"]


def digests(out):
    return {file.parent.name: json.loads(file.read_text())["digest"] for file in out.rglob(manifest.FILE)}


@pytest.mark.parametrize("after", ["2 chunks", "read", "originals"])
def test_killed_is_uninterrupted(tiny, before, written, tmp_path, monkeypatch, after):
    out, resolved = tmp_path / "out", tiny(name="metro/fast_electra")

    def write():
        return corrupt.corrupt(resolved, "fast_electra", str(out), workdir=str(before), chunk=512, console=QUIET)

    of, name = (corrupted_store.Writer, "put") if "chunks" in after else (corrupted_store.writer.Writer, "close")
    whole, calls = getattr(of, name), []

    def killed(self, *arguments, **keywords):
        calls.append(0)
        if len(calls) > {"2 chunks": 2, "read": 1, "originals": 2}[after]:
            raise KeyboardInterrupt
        return whole(self, *arguments, **keywords)

    monkeypatch.setattr(of, name, killed)
    with pytest.raises(KeyboardInterrupt):
        write()
    monkeypatch.undo()
    data = corrupted.Corrupted(store=str(out), inputs=32, targets=5)
    assert "holds no finished corrupted text of split 'train'" in data.problems()[0]
    fed = []
    feed = type(resolved.value.stages[1].data).feed
    monkeypatch.setattr(
        type(resolved.value.stages[1].data),
        "feed",
        lambda self, **given: (fed.append(given["start"]), feed(self, **given))[1],
    )
    write()
    assert fed == [4 if "chunks" in after else 8]
    assert not data.problems() and digests(out) == digests(written) and len(digests(out)) == 3
    assert not list(out.glob("*.building"))
    data.open().verify()
    stamps = [file.stat().st_mtime_ns for file in out.rglob("*")]
    write()
    assert stamps == [file.stat().st_mtime_ns for file in out.rglob("*")]


def test_damage_is_named(written, tmp_path):
    for column in ("read", "originals", "rows"):
        out = tmp_path / column
        shutil.copytree(written, out)
        data = corrupted.Corrupted(store=str(out), inputs=32, targets=5)
        file = max((out / f"train.{column}" / "tokens").rglob("c/*"), key=lambda path: path.stat().st_size)
        contents = bytearray(file.read_bytes())
        contents[len(contents) // 3] ^= 1
        file.write_bytes(contents)
        assert "is damaged" in data.problems()[0] and "`baton corrupt --overwrite`" in data.problems()[0]
    out = tmp_path / "mixed"
    shutil.copytree(written, out)
    file = out / "train.read" / manifest.FILE
    file.write_text(file.read_text().replace('"batch": 8', '"batch": 4'))
    assert (
        "is of another corruption than train.rows"
        in corrupted.Corrupted(store=str(out), inputs=32, targets=5).problems()[0]
    )


def test_rereading_is_counted_and_warned_of(written):
    resolved = alone(written, "FAST_STEPS=12", "BATCH=8")
    (stage,) = resolved.value.stages
    assert epochs.counted(resolved.value, stage) == {"aa": 1.5, "bb": 1.5}
    assert (
        "aa 1.5 times, bb 1.5 times will have been read, and its data's max_epochs is 1"
        in epochs.warnings(resolved.value, stage)[0]
    )
    assert not epochs.warnings(resolved.value, dataclasses.replace(stage, steps=8))
    feeds = {batch: stage.data.feed(batch=batch, seed=seed) for batch, seed in ((8, 0), (32, 1))}
    small = [next(feeds[8]) for _ in range(12)]
    large = [next(feeds[32]) for _ in range(3)]
    assert large[0]["encoder_inputs"].shape == (32, 32) != small[0]["encoder_inputs"].shape
    for name in small[0]:
        joined = np.concatenate([batch[name] for batch in small])
        np.testing.assert_array_equal(joined, np.concatenate([batch[name] for batch in large]))
        np.testing.assert_array_equal(joined[64:], joined[:32])
    late = stage.data.feed(batch=8, seed=0, start=5)
    np.testing.assert_array_equal(next(late)["targets"], small[5]["targets"])
    for feed in (*feeds.values(), late):
        feed.close()
    console = rich.console.Console(record=True, width=120)
    preview.render(stage.data, 1, console)
    assert "share of the text to predict" in console.export_text()


ONLINE = "corrupt metro/fast_electra --overlay gin/tiny.gin --set VOCABULARY=384 --set STORE='{store}' --out {out}"
OFFLINE = "plan metro/fast_electra_offline --overlay gin/tiny.gin --set VOCABULARY=384"
RUN = OFFLINE.replace("plan", "run", 1) + " --workdir {out}"
STAGE = " --stage fast_electra --workdir {before}"
MISTAKES = [
    (ONLINE, "the following arguments are required: --stage"),
    (ONLINE + " --stage fast", "has no stage 'fast'; did you mean 'fast_electra'?"),
    (ONLINE + " --stage mlm", "needs a Pair under the loss Metro and this stage has Encoder under LanguageModel"),
    (ONLINE + " --stage fast_electra", "the auxiliary is of stage 'mlm'; give the --workdir where that one has run"),
    (ONLINE + " --stage fast_electra --workdir nowhere", "nowhere/mlm holds no complete checkpoint"),
    (ONLINE + STAGE + " --set fast_electra/metro.Metro.mlm=1.0 --set fast_electra/Stage.frozen=()", "the auxiliary trains (mlm = 1.0)"),
    (ONLINE + STAGE + " --set fast_electra/Stage.frozen=()", "would still decay; freeze"),
    (ONLINE + STAGE + " --set auxiliary/stack.Stack.width=16", "has shape [16] and source encoder/"),
    (ONLINE.replace("{store}", "nowhere") + STAGE, "nowhere"),
    (ONLINE.replace("{store}", "{other}") + STAGE, "and its auxiliary was trained with"),
    (ONLINE.replace("{out}", "{store}") + STAGE + " --split train --batches 0", "0 is less than 1"),
    (ONLINE + STAGE + " --split test --batches 2", "has no finished part"),
    (ONLINE + STAGE + " --split validation", "give their number of batches with --batches"),
    (ONLINE.replace("{out}", "{written}") + STAGE + " --set fast_electra/Stage.seed=5", "write to another directory, or replace it with --overwrite"),
    (ONLINE.replace("{out}", "{elsewhere}") + STAGE, "write to another directory"),
    (OFFLINE, 'STORE must be set: give --set "STORE=..."'),
    (RUN + " --set STORE='nowhere'", "nowhere holds no finished corrupted text of split 'train': write it with `baton corrupt`"),
    (RUN + " --set STORE='{store}'", "holds no finished corrupted text"),
    (RUN + " --set STORE='{written}' --set LENGTH=16 --set TARGETS=2", "has rows of {'inputs': 32, 'targets': 5}, the recipe has {'inputs': 16, 'targets': 2}"),
    (RUN.replace("384", "300") + " --set STORE='{written}'", "the data's vocabulary has 384 ids and the model 300"),
    (OFFLINE + " --set STORE='x' --set fast_electra_offline/encoder.Encoder.head=@heads.MaskedLM()", "has rtd = 1.0 and the Encoder's head, MaskedLM, has no ReplacedToken"),
    (OFFLINE + " --set STORE='x' --set fast_electra_offline/denoised.Denoised.rtd=None", "leaves the main encoder nothing to learn"),
    (OFFLINE + " --set STORE='x' --set fast_electra_offline/Stage.data=@blend.Blend() --set Blend.objective=@objectives.MaskedLM() --set Blend.inputs=32", "reads text that a model has corrupted and the data is Blend"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_a_mistake_is_one_line(line, message, store, before, written, tmp_path, capfd):
    for folder in ("other", "elsewhere"):
        (tmp_path / folder).mkdir()
        card = json.loads((written / "vocabulary.json").read_text()) | {"fingerprint": "0" * 64}
        if folder == "other":
            shutil.copytree(store, tmp_path / folder, dirs_exist_ok=True)
            for file in (tmp_path / folder).rglob(manifest.FILE):
                file.write_text(
                    file.read_text().replace(json.loads(file.read_text())["vocabulary_fingerprint"], "0" * 64)
                )
        (tmp_path / folder / "vocabulary.json").write_text(json.dumps(card))
    places = {"store": store, "before": before, "written": written, "out": tmp_path / "out"}
    places |= {folder: tmp_path / folder for folder in ("other", "elsewhere")}
    for name, value in places.items():
        line = line.replace(f"{{{name}}}", str(value))
    stamps = [file.stat().st_mtime_ns for file in written.rglob("*")]
    try:
        code = cli.main(line.split(" "))
    except SystemExit as stop:
        code = stop.code
    printed = capfd.readouterr()
    said = [text for text in (printed.err + printed.out).splitlines() if "baton: " in text or "problem:" in text]
    assert code == 2 and any(message in text for text in said), printed
    assert not (tmp_path / "out").exists() and stamps == [file.stat().st_mtime_ns for file in written.rglob("*")]


def test_what_gin_does_not_come_by_is_refused_too(tiny, before, written, tmp_path):
    resolved = tiny(name="metro/fast_electra")
    with pytest.raises(recipe.Mistake, match="starts from scratch, with an auxiliary that has learnt nothing"):
        orphan = changed(resolved, "fast_electra", start=None)
        corrupt.corrupt(orphan, "fast_electra", str(tmp_path / "out"), workdir=str(before), console=QUIET)
    (stage,) = alone(written).value.stages
    both = resolved.value.stage("fast_electra")
    (problem,) = stage.loss.problems(dataclasses.replace(stage, model=both.model))
    assert "trains an Encoder alone and the model is Pair" in problem
    assert any(
        "is corrupted already" in line for line in both.loss.problems(dataclasses.replace(both, data=stage.data))
    )
    assert not (tmp_path / "out").exists() and not stage.loss.problems(stage)

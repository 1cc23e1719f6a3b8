"""What a stage forgot: two checkpoints on one text, against figures computed by another way; and what is refused."""

import contextlib
import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from scipy import stats

from models import decoder, encoder
from recipes import checkpoint, cli, config, forgetting, lineage, recipe, trained
from recipes.report import forgetting as section
from recipes.report import markup

STEP = 7


def moved(params, by, seed=0):
    """Parameters, each moved by a share of its own spread."""
    rng = np.random.default_rng(seed)
    noise = {path: rng.normal(size=value.shape) * (0.02 + value.std()) for path, value in params.items()}
    return {path: np.float32(value + by * noise[path]) for path, value in params.items()}


@pytest.fixture(scope="module")
def write():
    """(folder, recipe, its stage, parameters, changes of the manifest): a checkpoint as that stage would leave it."""

    def made(folder, resolved, name, params, **changes):
        start = {"origin": "scratch", "parent": None, "handoff": None, "lineage": []}
        said = {
            **{"resolved": resolved, "stage": resolved.value.stage(name), "step": STEP, "clock": 0, "start": start},
            **{"spent": {"tokens": 0, "flops": 0, "training_units": 0}, "skipped": 0, "streak": 0, "best": None},
        }
        manifest = lineage.manifest(**said, digest=checkpoint.digest(params)) | changes
        with contextlib.closing(checkpoint.Checkpoints(folder, recipe.Save())) as checkpoints:
            checkpoints.save(STEP, {path: jnp.asarray(value) for path, value in params.items()}, {}, manifest)
        return str(folder)

    return made


@pytest.fixture(scope="module")
def place(tiny, write, tmp_path_factory):
    """A masked-LM encoder; the same moved; an encoder-decoder around the first; a decoder; a shallower, narrower one."""
    root, resolved = tmp_path_factory.mktemp("forgetting") / "run", tiny("BATCH=16")
    models = {stage.name: stage.model for stage in resolved.value.stages}
    mlm = {path: np.asarray(value) for path, value in models["mlm"].init(jax.random.key(0)).items()}
    mlm = moved(mlm, 0.5)
    around = {path: np.asarray(value) for path, value in models["frozen"].init(jax.random.key(1)).items()}
    around |= {path: mlm[path] for path in around if path.split("/")[0] in ("encoder", "token_embedder")}
    write(root / "mlm", resolved, "mlm", mlm)
    write(root.parent / "later" / "mlm", resolved, "mlm", moved(mlm, 0.3, seed=1))
    write(root / "frozen", resolved, "frozen", around)
    causal = tiny("BATCH=16", name="causal_lm")
    own = {path: np.asarray(value) for path, value in causal.value.stages[0].model.init(jax.random.key(2)).items()}
    write(root / "causal", causal, "causal", own)
    small = tiny("BATCH=16", "LAYERS=1", "WIDTH=16")
    own = {path: np.asarray(value) for path, value in small.value.stage("mlm").model.init(jax.random.key(3)).items()}
    write(root.parent / "small" / "mlm", small, "mlm", own)
    return root


def eval_(capsys, *arguments):
    """The JSON that the command prints."""
    code = cli.main(["eval", "--forgetting", *map(str, arguments), "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out)


def test_losses_of_both_are_measured_on_the_same_held_out_batches(place, capsys):
    before, after = place / "mlm", place.parent / "later" / "mlm"
    found = eval_(capsys, before, after, "--batches", 3)
    file = after / "eval" / "forgetting" / "run.mlm" / "forgetting.json"
    assert json.loads(file.read_text()) == found and found["before"]["step"] == STEP
    said = {"stage": "mlm", "objective": "MaskedLM", "split": "validation", "batches": 3, "rows": 16}
    assert said.items() <= found["data"].items() and found["loss_reason"] is None
    rows = {row["figure"]: row for row in found["loss"]}
    assert set(rows) == {"loss", "accuracy", "loss/aa", "loss/bb"}

    stage = trained.read(str(before)).stage
    feed = dataclasses.replace(stage.data, split="validation").feed(batch=16, seed=0)
    batches = [next(feed) for _ in range(3)]
    feed.close()
    read = jax.jit(
        lambda params, batch: (lambda made: made.readout.logits(made.hidden))(stage.model.apply(params, batch))
    )
    each = {}
    for side, folder in (("before", before), ("after", after)):
        root = epath.Path(folder) / "checkpoints" / str(STEP)
        params = checkpoint.read(root, checkpoint.abstract(root))
        sums = []
        for batch in batches:
            logits = np.asarray(read(params, batch), np.float64)
            picked = np.take_along_axis(logits, batch["targets"][..., None], axis=-1)[..., 0]
            tokens = (np.log(np.exp(logits).sum(axis=-1)) - picked) * batch["weights"]
            parts = [tokens[batch["part"] == part].sum() for part in (0, 1)]
            weights = [batch["weights"][batch["part"] == part].sum() for part in (0, 1)]
            sums.append((parts, weights))
        sums = np.array(sums)
        each[side] = sums[:, 0].sum(axis=1) / sums[:, 1].sum(axis=1)
        loss, weight = sums.sum(axis=0)
        assert rows["loss"][side] == pytest.approx(loss.sum() / weight.sum(), rel=1e-5)
        for part, name in enumerate(("aa", "bb")):
            assert rows[f"loss/{name}"][side] == pytest.approx(loss[part] / weight[part], rel=1e-5)
    differences = each["after"] - each["before"]
    assert rows["loss"]["difference"] == pytest.approx(rows["loss"]["after"] - rows["loss"]["before"]) != 0
    assert rows["loss"]["deviation"] == pytest.approx(differences.std(ddof=1), rel=1e-3)
    wide = stats.t(2, differences.mean(), stats.sem(differences)).interval(0.95)
    assert rows["loss"]["interval"] == pytest.approx((wide[1] - wide[0]) / 2, rel=1e-3)
    assert all(0 < value < 0.99 for value in found["cka"]["encoder"]) and len(found["cka"]["encoder"]) == 3
    assert found["tokens"] == {"encoder": sum(int((batch["encoder_segments"] > 0).sum()) for batch in batches)}
    shown = [line.split() for line in forgetting.lines(found)]
    assert ["embeddings", f"{found['cka']['encoder'][0]:.4f}"] in shown
    assert ["loss/aa", *(f"{rows['loss/aa'][side]:.4f}" for side in ("before", "after"))] in [row[:3] for row in shown]


def test_a_model_has_forgotten_nothing_of_itself_and_a_shared_encoder_nothing_either(place, capsys):
    found = eval_(capsys, place / "mlm", place / "mlm", "--batches", 2, "--rows", 8)
    assert found["data"]["rows"] == 8 and found["cka"]["encoder"] == pytest.approx([1.0] * 3, abs=1e-12)
    assert {row["difference"] for row in found["loss"]} == {row["deviation"] for row in found["loss"]} == {0.0}
    found = eval_(capsys, place / "mlm", place / "frozen", "--batches", 2)
    assert found["loss"] == [] and "kind 'encdec' can't learn from data of kind 'encoder'" in found["loss_reason"]
    assert found["cka"]["encoder"] == pytest.approx([1.0] * 3, abs=1e-5)
    found = eval_(capsys, place / "frozen", place / "mlm", "--batches", 2)
    assert set(found["cka"]) == {"encoder"} and found["cka"]["encoder"] == pytest.approx([1.0] * 3, abs=1e-5)
    found = eval_(capsys, place / "mlm", place / "causal", "--batches", 2)
    assert found["cka"] == {} and "no layers to compare" in found["notes"][0]


def test_other_depths_and_widths_are_compared_as_far_as_they_go(place, capsys):
    small = place.parent / "small" / "mlm"
    found = eval_(capsys, place / "mlm", small, "--batches", 2)
    assert len(found["cka"]["encoder"]) == 2 and found["loss_reason"] is None
    assert found["notes"] == ["encoder: 2 layers before and 1 after; 1 to 1 are compared by number"]
    page = section.section({"runs": [{"stages": [{"forgetting": section.read(epath.Path(small))[0]}]}]})
    assert "loss/bb" in page and page.count("class=alike") == 2 and markup.e(found["notes"][0]) in page
    file = small / "eval" / "forgetting" / "run.mlm" / "forgetting.json"
    file.write_text(json.dumps(found | {"tokens": {"encoder": float("nan")}}))
    assert section.read(epath.Path(small)) == ([], ["eval/forgetting/run.mlm/forgetting.json can't be read"])


def scored(folder, task, values, digest):
    """What `baton eval` leaves: a figure and two parts of it, for as many seeds as there are values."""
    home = folder / "eval" / task
    home.mkdir(parents=True)
    source = {"folder": str(folder), "step": STEP, "params_digest": digest}
    runs = [{"seed": seed, "scores": {"test/f1": value, "test/f1/en": value}} for seed, value in enumerate(values)]
    record = {"task": task, "figure": "f1", "source": source, "runs": runs, "rates": {"0.1": 1.0}, "rate": 0.1}
    record |= {"test": {"values": values}, "parts": {"en": {"values": [value / 2 for value in values]}}}
    (home / "scores.json").write_text(json.dumps(record))


def test_scores_of_old_tasks_stand_beside_each_other(place, tmp_path, capsys):
    for name, source in (("mlm", place / "mlm"), ("later", place.parent / "later" / "mlm")):
        shutil.copytree(source, tmp_path / "run" / name, ignore=shutil.ignore_patterns("eval"))
    before, after = tmp_path / "run" / "mlm", tmp_path / "run" / "later"
    digests = [checkpoint.manifest(folder)["params_digest"] for folder in (before, after)]
    scored(before, "ner", [0.8, 0.84, 0.79], digests[0])
    scored(after, "ner", [0.7, 0.66], digests[1])
    scored(before, "udpos", [0.9], digests[0])
    scored(before, "sib200", [0.5], digests[0])
    scored(after, "sib200", [0.4], "of an older one")
    found = eval_(capsys, before, after, "--batches", 1)
    rows = {row["figure"]: row for row in found["scores"]}
    welch = stats.ttest_ind([0.7, 0.66], [0.8, 0.84, 0.79], equal_var=False).confidence_interval(0.95)
    assert set(rows) == {"f1", "f1/en"} and rows["f1"]["difference"] == pytest.approx(0.68 - 0.81)
    assert rows["f1"]["interval"] == pytest.approx((welch.high - welch.low) / 2)
    assert rows["f1"]["after"] == {"n": 2, "mean": pytest.approx(0.68), "values": [0.7, 0.66]}
    assert len(found["unscored"]) == 2 and "is of another checkpoint" in found["unscored"][0]
    assert f"task udpos: {after} has no scores; run `baton eval {after} udpos`" in found["unscored"]
    assert all(row["interval"] is None and row["deviation"] is None for row in found["loss"]), "one batch has no spread"
    named = eval_(capsys, before, after, "cldr_label", "--batches", 1)
    assert named["scores"] == [] and len(named["unscored"]) == 2 and "task cldr_label" in named["unscored"][0]


def test_what_is_missing_is_scored_where_the_flag_asks_of_an_imported_model_too(place, tmp_path, capsys):
    for name in ("imported", "again"):
        shutil.copytree(place / "mlm", tmp_path / "run" / name, ignore=shutil.ignore_patterns("eval"))
    manifest = tmp_path / "run" / "imported" / "checkpoints" / str(STEP) / "manifest" / "metadata"
    stage = trained.read(str(place / "mlm")).stage
    said = json.loads(manifest.read_text()) | {"start": {"origin": "import"}, "recipe": "import", "gin": _model(stage)}
    manifest.write_text(json.dumps(said))
    checkpoint.complete(manifest.parent.parent)
    few = (
        "STEPS=2 BATCH=8 EVERY=2 WARMUP=1 LENGTH=32 RATES=(1e-3,) SEEDS=1 examples.Examples.limit=8 VOCABULARY='bytes'"
    )
    given = [part for binding in few.split() for part in ("--set", binding)]
    before, after = (tmp_path / "run" / name for name in ("imported", "again"))
    asked = ("cldr_classify", "--data", after, "--batches", 1, "--run-missing", *given)
    found = eval_(capsys, before, after, *asked)
    assert found["unscored"] == [] and {row["figure"] for row in found["scores"]} >= {"accuracy"}
    assert all(row["difference"] == 0 for row in found["scores"]), "the same parameters, fine-tuned the same way"
    assert (after / "eval" / "cldr_classify" / "scores.json").exists()


def test_evaluations_count_where_both_stages_ask_the_same(place, tiny, write, tmp_path, capsys):
    same = ("recipe.Stage.evaluate=(@recipe.Evaluate(),)", "recipe.Evaluate.name='held_out'", "BATCH=16")
    resolved, params = tiny(*same), {}
    root = place / "mlm" / "checkpoints" / str(STEP)
    params = checkpoint.read(root, checkpoint.abstract(root))
    for name, of, loss in (
        ("before", resolved, 3.0), ("after", resolved, 3.5), ("other", tiny(*same, "recipe.Evaluate.batches=2"), 9.0),
    ):  # fmt: skip
        folder = write(tmp_path / "run" / name, of, "mlm", params)
        (epath.Path(folder) / "done").write_text(json.dumps({"scores": {"held_out/loss": loss, "else/loss": 1.0}}))
    found = eval_(capsys, tmp_path / "run" / "before", tmp_path / "run" / "after", "--batches", 1)
    (row,) = found["scores"]
    assert (row["task"], row["figure"], row["difference"], row["interval"]) == ("held_out", "loss", 0.5, None)
    found = eval_(capsys, tmp_path / "run" / "before", tmp_path / "run" / "other", "--batches", 1)
    assert found["scores"] == [] and "the two stages score other data" in found["unscored"][0]


def test_bad_input_is_one_line(place, tiny, write, store, tmp_path, capsys, monkeypatch):
    resolved, later = tiny("BATCH=16"), place.parent / "later" / "mlm"
    root = place / "mlm" / "checkpoints" / str(STEP)
    params = checkpoint.read(root, checkpoint.abstract(root))
    write(tmp_path / "run" / "spelt", resolved, "mlm", params, vocabulary="0" * 64)
    wide = tiny("BATCH=16", "VOCABULARY=400")
    more = {path: np.asarray(value) for path, value in wide.value.stage("mlm").model.init(jax.random.key(0)).items()}
    write(tmp_path / "run" / "wide", wide, "mlm", more)
    start = {"origin": "import", "parent": None, "handoff": None}
    write(tmp_path / "run" / "imported", resolved, "mlm", params, start=start, gin=_model(resolved.value.stage("mlm")))
    shutil.copytree(place / "mlm", tmp_path / "run" / "damaged")
    leaf = next(file for file in (tmp_path / "run" / "damaged" / "checkpoints").rglob("*embedding*") if file.is_dir())
    next(file for file in leaf.iterdir() if file.name != ".zarray").unlink()
    gone = config.load("mlm_then_seq2seq", ["STORE='nowhere'", "VOCABULARY=384", "BATCH=16"], overlays=["gin/tiny.gin"])
    monkeypatch.setattr(type(gone.value.stage("mlm").data), "fingerprint", lambda self: None)
    write(tmp_path / "run" / "gone", gone, "mlm", params)
    monkeypatch.undo()

    def refused(*arguments):
        assert cli.main(["eval", *map(str, arguments)]) == recipe.MISTAKE
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    here = tmp_path / "run"
    assert "the later WORKDIR/STAGE" in refused("--forgetting", place / "mlm")
    assert "nothing holds no complete checkpoint" in refused("--forgetting", place / "mlm", here / "nothing")
    assert "compare stages of one vocabulary" in refused("--forgetting", place / "mlm", here / "spelt")
    assert "has 384 token ids and" in refused("--forgetting", place / "mlm", here / "wide")
    assert "damaged: " in refused("--forgetting", here / "damaged", later)
    assert "name a stage that has both with --data" in refused("--forgetting", here / "imported", later)
    assert "nowhere" in refused("--forgetting", here / "gone", later)
    assert "doesn't divide over 8 devices" in refused("--forgetting", place / "mlm", later, "--rows", 3)
    assert "--json goes with --forgetting" in refused(place / "mlm", "cldr_label", "--json")
    found = eval_(capsys, here / "imported", later, "--data", later, "--batches", 1)
    assert found["loss_reason"] is None and found["loss"][0]["difference"] != 0


def _model(stage):
    """What an import writes of its model in place of a recipe."""
    from recipes import spell

    return {"hash": "", "text": spell.spell(stage.model)}


def test_a_loss_without_the_output_that_it_reads_is_a_problem(tiny):
    stage = tiny().value.stage("mlm")
    bare = dataclasses.replace(stage, model=dataclasses.replace(stage.model, head=None))
    assert isinstance(bare.model, encoder.Encoder) and stage.loss.problems(stage) == []
    (problem,) = bare.loss.problems(bare)
    assert "loss LanguageModel reads the readout of a model and the Encoder gives states alone" in problem
    causal = tiny(name="causal_lm").value.stages[0]
    assert isinstance(causal.model, decoder.Decoder) and causal.loss.problems(causal) == []

"""Fine-tuning: which body a task takes, which head it makes, and what an evaluation leaves behind."""

import dataclasses
import json

import pytest
import rich.console

from models import heads
from recipes import checkpoint, cli, config, downstream, finetune, problems, recipe, run, spell
from recipes import trained as trained_stages
from tasks import downstream as tasks_downstream
from tasks import examples

QUIET = rich.console.Console(quiet=True)
SMALL = (
    "STEPS=4",
    "BATCH=8",
    "EVERY=2",
    "WARMUP=1",
    "LENGTH=32",
    "RATES=(1e-3, 3e-3)",
    "SEEDS=2",
    "examples.Examples.limit=8",
)


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """A work directory with stages mlm and frozen, in bytes."""
    workdir = tmp_path_factory.mktemp("trained")
    run.run(tiny(), str(workdir), until="frozen", console=QUIET)
    return workdir


def task(name, *overrides, vocabulary="bytes"):
    given = [f"VOCABULARY='{vocabulary}'", *SMALL, *overrides]
    return config.load(name, given, of=finetune.Task, folder="tasks").value


@pytest.mark.parametrize("path", config.shipped(), ids=lambda path: path.stem)
def test_what_is_spelt_builds_an_equal_recipe(path):
    needed = "STORE = %gin.REQUIRED" in path.read_text()
    value = config.load(path, ["STORE='x'"] if needed else []).value
    assert config.parse(spell.spell(value), "spelt").value == value


TASKS = [path for path in config.shipped("tasks") if path.stem != "base"]  # base.gin is what the others share


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_every_shipped_task_loads(path):
    needed = ["TASKS='tasks'"] if "TASKS = %gin.REQUIRED" in path.read_text() else []
    found = task(path, *needed)
    assert found.name == path.stem and found.train.split == "train" != found.test.split


@pytest.mark.parametrize("stage", ["mlm", "frozen"])
def test_an_encoder_and_the_encoder_of_a_seq2seq_model_score_alike(trained, stage):
    start = trained_stages.read(str(trained / stage))
    (made,) = finetune.stages(task("cldr_label"), start, [(1e-3, 0)])
    assert isinstance(made.model.head, heads.TokenClassification) and made.model.head.classes == 29
    assert made.start is not None and made.start.fresh == ("token_head/.*",)
    assert made.optimizer.schedule.peak == 1e-3
    assert {path.split("/")[0] for path in made.model.abstract()} == {"token_embedder", "encoder", "token_head"}


def test_an_evaluation_tries_rates_then_seeds_and_scores_each_language(trained):
    found = downstream.evaluate(str(trained / "mlm"), task("cldr_classify"), QUIET)
    home = trained / "mlm" / "eval" / "cldr_classify"
    assert json.loads((home / "scores.json").read_text()) == found
    assert set(found["rates"]) == {"0.001", "0.003"} and found["rate"] in (1e-3, 3e-3)
    assert [each["seed"] for each in found["runs"]] == [0, 1] and found["test"]["n"] == 2
    assert len(found["parts"]) == 12
    for each in found["runs"]:
        parts = [each["scores"][f"test/accuracy/{part}"] for part in found["parts"]]
        assert each["scores"]["test/accuracy"] == pytest.approx(sum(parts) / 12)
    stamp = (home / "grid" / "rate_0.001.seed_0" / "done").stat().st_mtime_ns
    assert downstream.evaluate(str(trained / "mlm"), task("cldr_classify"), QUIET) == found
    assert stamp == (home / "grid" / "rate_0.001.seed_0" / "done").stat().st_mtime_ns
    lineage = checkpoint.manifest(home / "seeds" / f"rate_{found['rate']:g}.seed_1")["lineage"]
    assert [entry["stage"] for entry in lineage] == ["mlm"]


def test_the_interval_is_student_s():
    found = downstream.summary([1.0, 2.0, 3.0])
    assert (found["mean"], found["deviation"]) == (2.0, 1.0)
    assert found["interval"] == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert "interval" not in downstream.summary([1.0])


def test_what_does_not_fit_is_one_line(trained, capsys, monkeypatch):
    mlm = trained_stages.read(str(trained / "mlm"))
    with pytest.raises(recipe.Mistake, match="writes text with a model of kind 'encdec', and .*mlm holds one of kind"):
        finetune.stages(task("cldr_translate"), mlm, [(1e-3, 0)])
    assert cli.main(["eval", str(trained / "mlm"), "cldr_lable"]) == recipe.MISTAKE
    assert "none so named in gin/tasks; did you mean 'cldr_label'?" in capsys.readouterr().err
    assert cli.main(["eval", str(trained / "nothing"), "cldr_label"]) == recipe.MISTAKE
    assert "holds no complete checkpoint" in capsys.readouterr().err
    moved = dataclasses.replace(mlm, vocabulary="moved/store")
    monkeypatch.setattr(trained_stages, "read", lambda folder: moved)
    assert cli.main(["eval", str(trained / "mlm"), "cldr_label"]) == recipe.MISTAKE
    assert "VOCABULARY must be set: give --set" in capsys.readouterr().err


def test_another_vocabulary_is_refused(trained, tmp_path):
    from tasks import corpora, vocabulary

    vocabulary.train(corpora.parse(["cldr:20"]), str(tmp_path / "other"), size=1000, sentences=2000)
    with pytest.raises(recipe.Mistake, match="is spelt with vocabulary .* give the vocabulary of its token store"):
        other = task("cldr_label", vocabulary=str(tmp_path / "other"))
        finetune.stages(other, trained_stages.read(str(trained / "mlm")), [(1e-3, 0)])


def test_questions_are_learnt_and_answered_over_all_rows_of_a_context(trained, tmp_path, tiny):
    """A head of two logits a token learns where the one answer stands, and the score reads it from the text."""
    texts = [f"The {word} cat is {colour} today." for word in ("old", "big", "wet") for colour in ("blue", "pink")]
    lines = [
        {"id": str(n), "question": "Which?", "context": text, "answers": [{"text": c, "answer_start": text.index(c)}]}
        for n, text in enumerate(texts)
        for c in [text.split()[4]]
    ]
    (tmp_path / "all.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    splits = tuple((split, str(tmp_path / "all.jsonl")) for split in ("train", "validation"))
    sets = tasks_downstream.Files(name="blue:en", vocabulary="bytes", format="squad", splits=splits, stride=16)
    data = examples.Examples(mixture="blue:en", inputs=32, form="span", tasks=sets)
    asked = task("cldr_label", "STEPS=60", "EVERY=60", "WARMUP=5")
    asked = dataclasses.replace(
        asked, name="blue", train=data, test=dataclasses.replace(data, split="validation"), figure="f1",
        rates=(1e-2,), seeds=1, dropout=0.0,
    )  # fmt: skip
    assert len(data.references()) > len(lines), "some context must need two rows"
    found = downstream.evaluate(str(trained / "mlm"), asked, QUIET)
    assert found["test"]["mean"] > 0.9 and found["runs"][0]["scores"]["test/exact_match"] > 0.8
    (stage,) = finetune.stages(asked, trained_stages.read(str(trained / "mlm")), [(1e-2, 0)])
    few = dataclasses.replace(stage, evaluate=(stage.evaluate[0], dataclasses.replace(stage.evaluate[1], batches=3)))
    (problem,) = problems.find(recipe.Recipe(name="few", stages=(few,)))
    assert "evaluation 'test' scores 3 batches and Passages needs every example once; set its batches = None" in problem

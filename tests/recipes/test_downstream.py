"""Fine-tuning: which body a task takes, which head it makes, and what an evaluation leaves behind."""

import json

import pytest
import rich.console

from models import heads
from recipes import checkpoint, cli, config, downstream, finetune, recipe, run, spell

QUIET = rich.console.Console(quiet=True)
SMALL = ("STEPS=4", "BATCH=8", "EVERY=2", "WARMUP=1", "LENGTH=32", "RATES=(1e-3, 3e-3)", "SEEDS=2", "examples.Examples.limit=8")


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


@pytest.mark.parametrize("stage", ["mlm", "frozen"])
def test_an_encoder_and_the_encoder_of_a_seq2seq_model_score_alike(trained, stage):
    start = finetune.source(str(trained / stage))
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


def test_what_does_not_fit_is_one_line(trained, capsys):
    mlm = finetune.source(str(trained / "mlm"))
    with pytest.raises(recipe.Mistake, match="writes text with a model of kind 'encdec', and .*mlm holds one of kind"):
        finetune.stages(task("cldr_translate"), mlm, [(1e-3, 0)])
    assert cli.main(["eval", str(trained / "mlm"), "cldr_lable"]) == recipe.MISTAKE
    assert "none so named in gin/tasks; did you mean 'cldr_label'?" in capsys.readouterr().err
    assert cli.main(["eval", str(trained / "nothing"), "cldr_label"]) == recipe.MISTAKE
    assert "holds no complete checkpoint" in capsys.readouterr().err


def test_another_vocabulary_is_refused(trained, tmp_path):
    from tasks import corpora, vocabulary

    vocabulary.train(corpora.parse(["cldr:20"]), str(tmp_path / "other"), size=1000, sentences=2000)
    with pytest.raises(recipe.Mistake, match="is spelt with vocabulary .* give the vocabulary of its token store"):
        other = task("cldr_label", vocabulary=str(tmp_path / "other"))
        finetune.stages(other, finetune.source(str(trained / "mlm")), [(1e-3, 0)])

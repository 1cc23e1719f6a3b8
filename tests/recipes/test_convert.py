"""The same handoff offline: as planned, leaf by leaf, into a stage that another recipe starts from."""

import dataclasses
import json

import numpy as np
import pytest
import rich.console

from recipes import checkpoint, cli, recipe, run
from recipes import trained as stages

QUIET = rich.console.Console(quiet=True)


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("trained")
    run.run(tiny(name="seq2seq_then_encoder"), str(workdir), until="seq2seq", console=QUIET)
    return workdir


def params(stage):
    root = stage / "checkpoints" / str(checkpoint.manifest(stage)["step"])
    return checkpoint.read(root, checkpoint.abstract(root))


def test_an_encoder_is_taken_out(trained, tmp_path, capsys):
    before = params(trained / "seq2seq")
    assert (
        cli.main(["convert", str(trained / "seq2seq"), str(tmp_path / "encoder"), "--handoff", "extract_encoder"]) == 0
    )
    after = params(tmp_path / "encoder")
    assert 0 < len(after) < len(before) and not any(path.startswith("decoder") for path in after)
    for path, value in after.items():
        np.testing.assert_array_equal(value, before[path])
    assert "(dropped)" in capsys.readouterr().out
    lineage = checkpoint.manifest(tmp_path / "encoder")["lineage"]
    assert [entry["stage"] for entry in lineage] == ["seq2seq"]


def test_a_dry_run_prints_the_plan_and_writes_nothing(trained, tmp_path, capsys):
    target = tmp_path / "encoder"
    assert (
        cli.main(["convert", str(trained / "seq2seq"), str(target), "--handoff", "extract_encoder", "--dry-run"]) == 0
    )
    assert "dry run: nothing is written" in capsys.readouterr().out and not target.exists()


def test_offline_and_in_the_run_are_the_same_handoff(trained, tiny, tmp_path):
    """The stage `encoder` from the converted checkpoint, and by its own handoff: the same bits."""
    resolved = tiny(name="seq2seq_then_encoder")
    text = tmp_path / "recipe.gin"
    text.write_text(resolved.text)
    target = tmp_path / "converted" / "start"
    words = ["--recipe", str(text), "--stage", "encoder"]
    assert cli.main(["convert", str(trained / "seq2seq"), str(target), *words]) == 0
    direct = run.run(resolved, str(trained), console=QUIET)["encoder"]
    stage = resolved.value.stages[1]
    again = dataclasses.replace(stage, start=recipe.Handoff(source=str(target)))
    assert again.start != stage.start
    alone = dataclasses.replace(resolved, value=recipe.Recipe(name="alone", stages=(again,)))
    assert run.run(alone, str(tmp_path / "alone"), console=QUIET)["encoder"]["params_digest"] == direct["params_digest"]


def test_what_was_converted_is_known_by_the_recipe_that_it_was_made_for(trained, tiny, tmp_path):
    resolved = tiny(name="seq2seq_then_encoder")
    text = tmp_path / "recipe.gin"
    text.write_text(resolved.text)
    words = ["convert", str(trained / "seq2seq")]
    assert cli.main([*words, str(tmp_path / "known"), "--recipe", str(text), "--stage", "encoder"]) == 0
    known = stages.read(str(tmp_path / "known"))
    assert known.model == resolved.value.stages[1].model != resolved.value.stages[0].model
    assert set(known.paths) == set(known.model.abstract())
    # Named like a stage of the source's recipe, and none of them.
    assert cli.main([*words, str(tmp_path / "seq2seq"), "--handoff", "extract_encoder"]) == 0
    with pytest.raises(recipe.Mistake, match="convert it again with --recipe FILE --stage NAME"):
        stages.read(str(tmp_path / "seq2seq"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--handoff", "extract_encodr"], "no handoff 'extract_encodr'; did you mean 'extract_encoder'?"),
        (["--handoff", "encoder_from_seq2seq"], "name the target's model with --recipe FILE --stage NAME"),
        (["--handoff", "seq2seq_from_encoder"], "name the target's model"),
        (["--stage", "encoder"], "--recipe and --stage go together"),
        ([], "no handoff: give --handoff NAME|FILE.gin"),
    ],
)
def test_mistakes_write_nothing(trained, tmp_path, capsys, words, message):
    target = tmp_path / "x"
    assert cli.main(["convert", str(trained / "seq2seq"), str(target), *words]) == 2
    assert message in capsys.readouterr().err and not target.exists()


def test_a_target_that_holds_a_checkpoint_is_left_alone(trained, tmp_path, capsys):
    words = ["convert", str(trained / "seq2seq"), str(tmp_path / "encoder"), "--handoff", "extract_encoder"]
    assert cli.main(words) == 0
    before = checkpoint.manifest(tmp_path / "encoder")
    assert cli.main(words) == 2
    assert "already holds a checkpoint" in capsys.readouterr().err
    assert checkpoint.manifest(tmp_path / "encoder") == before


def test_the_digest_on_request_is_that_of_the_manifest(trained, capsys):
    assert cli.main(["digest", str(trained / "seq2seq")]) == 0
    done = json.loads((trained / "seq2seq" / "done").read_text())
    assert capsys.readouterr().out.split()[0] == done["params_digest"]

"""A recipe end to end: what moves, what doesn't, what is written, and that a stop anywhere changes nothing."""

import dataclasses
import json
import shutil
import signal

import jax
import numpy as np
import pytest
import rich.console
from etils import epath

from recipes import checkpoint, journal, loop, mesh, recipe, run

QUIET = rich.console.Console(quiet=True)


def params(workdir, stage):
    root = workdir / stage / "checkpoints" / str(checkpoint.manifest(workdir / stage)["step"])
    return checkpoint.read(root, checkpoint.abstract(root))


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """An uninterrupted run of the shipped recipe, shrunk."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, run.run(tiny(), str(workdir), console=QUIET)


def test_frozen_parameters_stay_bit_identical_and_free_ones_move(whole):
    workdir, _ = whole
    before, after, freed = (params(workdir, stage) for stage in ("mlm", "frozen", "unfrozen"))
    kept = [path for path in after if path.startswith(("encoder/", "token_embedder/"))]
    assert len(kept) > 10
    for path in kept:
        np.testing.assert_array_equal(before[path], after[path])
    assert all((after[path] != freed[path]).any() for path in kept if "bias" not in path)
    names = checkpoint.abstract(workdir / "frozen" / "checkpoints" / "8", "opt_state")
    assert names and not any(".encoder." in name or "token_embedder" in name for name in names)


def test_a_checkpoint_tells_its_whole_lineage(whole):
    workdir, finished = whole
    manifest = checkpoint.manifest(workdir / "unfrozen")
    assert [entry["stage"] for entry in manifest["lineage"]] == ["mlm", "frozen"]
    assert [entry["params_digest"] for entry in manifest["lineage"]] == [
        finished[stage]["params_digest"] for stage in ("mlm", "frozen")
    ]
    assert manifest["params_digest"] == checkpoint.digest(params(workdir, "unfrozen"))
    assert manifest["start"]["parent"]["params_digest"] == finished["frozen"]["params_digest"]
    assert manifest["spent"]["tokens"] > 0 and manifest["spent"]["flops"] > 0
    assert "unfrozen/recipe.Stage.name = 'unfrozen'" in manifest["gin"]["text"]
    handed = json.loads((workdir / "frozen" / "handoff.json").read_text())
    assert handed["parameters"]["copied"] > 0 and handed["parameters"]["fresh"] > 0
    assert any(entry["source"] == "mlm_head/bias" for entry in handed["dropped"])


def test_metrics_are_written_for_people_and_machines(whole):
    workdir, _ = whole
    lines = journal.read(workdir / "mlm")
    assert [line["step"] for line in lines] == [10, 12]
    assert {"loss", "accuracy", "loss/aa", "loss/bb", "learning_rate", "grad_norm", "tokens_per_second"} <= set(
        lines[0]
    )
    assert 0 <= lines[0]["waiting"] <= 1
    assert list((workdir / "mlm").glob("events.out.tfevents.*"))
    from tensorboard.backend.event_processing import event_file_loader

    file = str(next((workdir / "mlm").glob("events.out.tfevents.*")))
    tags = {value.tag for event in event_file_loader.EventFileLoader(file).Load() for value in event.summary.value}
    assert {"loss", "learning_rate"} <= tags


def test_running_again_does_nothing(whole, tiny):
    workdir, finished = whole
    stamps = {path: path.stat().st_mtime_ns for path in workdir.rglob("done")}
    again = run.run(tiny(), str(workdir), console=QUIET)
    assert again == finished
    assert stamps == {path: path.stat().st_mtime_ns for path in workdir.rglob("done")}


def test_another_recipe_is_refused_in_the_same_directory(whole, tiny):
    workdir, _ = whole
    with pytest.raises(
        recipe.Mistake, match="was begun with 'MLM_STEPS = 12' where the recipe now has 'MLM_STEPS = 13'"
    ):
        run.run(tiny("MLM_STEPS=13"), str(workdir))


def test_a_directory_of_before_a_field_was_added_goes_on(whole, tiny, tmp_path):
    workdir, finished = whole
    shutil.copytree(workdir, tmp_path / "older")
    file = tmp_path / "older" / "recipe.gin"
    text = file.read_text()
    older = "\n".join(line for line in text.splitlines() if not line.endswith(("Stack.unroll = 1", "z_loss = 0.0")))
    assert older.count("\n") < text.count("\n") - 2, "the two texts differ"
    file.write_text(older)
    assert run.run(tiny(), str(file.parent), console=QUIET) == finished
    assert file.read_text() == text, "from now on it says the field"
    file.write_text(older.replace("MaskedLM.span = 1", "MaskedLM.span = 3"))
    with pytest.raises(recipe.Mistake, match="was begun with 'mlm/objectives.MaskedLM.span = 3' where the recipe"):
        run.run(tiny(), str(file.parent), console=QUIET)


@pytest.mark.parametrize("stops", [(3,), (1, 14, 22)])
def test_sigterm_saves_and_the_same_command_gives_the_same_bits(whole, tiny, tmp_path, monkeypatch, stops):
    _, finished = whole
    resolved = tiny()
    taken, left = [0], list(stops)
    put = mesh.put

    def counted(batch, over):
        taken[0] += 1
        if left and taken[0] == left[0]:
            left.pop(0)
            signal.raise_signal(signal.SIGTERM)
        return put(batch, over)

    monkeypatch.setattr(mesh, "put", counted)
    for _ in stops:
        with pytest.raises(recipe.Preempted, match="the same command goes on from there"):
            run.run(resolved, str(tmp_path), console=QUIET)
    again = run.run(resolved, str(tmp_path), console=QUIET)
    assert not left
    assert {name: stage["params_digest"] for name, stage in again.items()} == {
        name: stage["params_digest"] for name, stage in finished.items()
    }
    assert {name: stage["spent"] for name, stage in again.items()} == {
        name: stage["spent"] for name, stage in finished.items()
    }


def test_one_schedule_one_optimizer_and_one_stream_span_two_stages(tiny, tmp_path):
    """12 updates in one stage, or 7 and 5 joined by a handoff that carries the optimizer and the clock."""
    shared = ("mlm/schedules.Linear.steps=12",)
    resolved = tiny(*shared)
    first = resolved.value.stages[0]
    whole = dataclasses.replace(resolved, value=recipe.Recipe(name="whole", stages=(first,)))
    carry = recipe.Handoff(source="mlm", carry=("opt_state", "clock"))
    halves = (dataclasses.replace(first, steps=7), dataclasses.replace(first, name="rest", steps=5, start=carry))
    split = dataclasses.replace(resolved, value=recipe.Recipe(name="split", stages=halves))
    assert [stage.steps for stage in split.value.stages] != [stage.steps for stage in whole.value.stages]
    one = run.run(whole, str(tmp_path / "one"), console=QUIET)["mlm"]
    two = run.run(split, str(tmp_path / "two"), console=QUIET)["rest"]
    assert one["params_digest"] == two["params_digest"]
    anew = dataclasses.replace(halves[1], start=recipe.Handoff(source="mlm"))
    other = dataclasses.replace(resolved, value=recipe.Recipe(name="anew", stages=(halves[0], anew)))
    assert run.run(other, str(tmp_path / "three"), console=QUIET)["rest"]["params_digest"] != one["params_digest"]


def test_an_optimizer_that_does_not_fit_is_not_carried(tiny, tmp_path):
    from recipes import optimizers, schedules

    resolved = tiny("MLM_STEPS=3")
    first = resolved.value.stages[0]
    other = optimizers.Adafactor(schedule=schedules.Constant(peak=1e-3))
    second = dataclasses.replace(
        first, name="b", optimizer=other, start=recipe.Handoff(source="mlm", carry=("opt_state",))
    )
    joined = dataclasses.replace(resolved, value=recipe.Recipe(name="x", stages=(first, second)))
    with pytest.raises(recipe.Mistake, match="give both stages the same optimizer or carry no 'opt_state'"):
        run.run(joined, str(tmp_path), console=QUIET)


def test_updates_that_are_not_finite_are_skipped_counted_and_limited(tiny, tmp_path):
    resolved = tiny("RATE=1e30", "WARMUP=1", "mlm/Stage.log_every=1", "mlm/Stage.max_skipped=4", "mlm/Stage.steps=50")
    with pytest.raises(recipe.Mistake, match=r"wasn't finite in 4 updates in a row, up to step \d+ \(batch index"):
        run.run(resolved, str(tmp_path), console=QUIET)
    skipped = [line["skipped"] for line in journal.read(tmp_path / "mlm")]
    assert skipped == sorted(skipped) and skipped[-1] >= 3


def test_one_device_and_eight_give_the_same_losses(tiny, tmp_path):
    """Three meshes: one device, eight copies, and two by two by two."""
    resolved = tiny("MLM_STEPS=6", "mlm/Stage.log_every=1", "RATE=1e-3")
    stage = dataclasses.replace(resolved.value.stages[0])
    meshes = {
        "one": mesh.build(recipe.Mesh(), jax.devices()[:1]),
        "data": mesh.build(recipe.Mesh(data=8)),
        "all": mesh.build(recipe.Mesh(data=2, fsdp=2, tensor=2)),
    }
    assert len({tuple(over.shape.values()) for over in meshes.values()}) == 3
    losses, digests = {}, {}
    for name, over in meshes.items():
        folder = epath.Path(tmp_path / name)
        digests[name] = loop.train(stage, resolved, folder, over, QUIET, lambda: False)["params_digest"]
        losses[name] = [line["loss"] for line in journal.read(folder / "mlm")]
    assert len(losses["one"]) == 6 and losses["one"][0] != losses["one"][-1]
    np.testing.assert_allclose(losses["data"], losses["one"], rtol=2e-5)
    np.testing.assert_allclose(losses["all"], losses["one"], rtol=2e-5)


def test_another_device_count_goes_on_with_the_same_batches(tiny, tmp_path, monkeypatch):
    """Three steps on one device, the rest on eight, against all on one: the same batches, the same losses."""
    resolved = tiny("MLM_STEPS=6", "mlm/Stage.log_every=1", "SAVE_STEPS=3", "RATE=1e-3")
    stage = resolved.value.stages[0]
    seen: list[str] = []
    put = mesh.put

    def noted(batch, over):
        seen.append(checkpoint.digest(batch))
        return put(batch, over)

    monkeypatch.setattr(mesh, "put", noted)
    one, eight = mesh.build(recipe.Mesh(), jax.devices()[:1]), mesh.build(recipe.Mesh(data=4, fsdp=2))
    assert one.size != eight.size
    loop.train(stage, resolved, epath.Path(tmp_path / "whole"), one, QUIET, lambda: False)
    whole, seen[:] = list(seen), []
    with pytest.raises(recipe.Preempted):
        loop.train(stage, resolved, epath.Path(tmp_path / "parts"), one, QUIET, lambda: len(seen) == 3)
    loop.train(stage, resolved, epath.Path(tmp_path / "parts"), eight, QUIET, lambda: False)
    assert seen == whole and len(set(seen)) == 6
    losses = [[line["loss"] for line in journal.read(tmp_path / name / "mlm")] for name in ("whole", "parts")]
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-5)

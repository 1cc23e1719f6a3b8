"""A stage that ends at its best evaluated checkpoint: what is kept, when it stops, and that a stop changes nothing."""

import dataclasses
import signal

import numpy as np
import pytest
import rich.console

from recipes import checkpoint, evaluate, journal, mesh, problems, recipe, run, scores, selection

QUIET = rich.console.Console(quiet=True)
# A learning rate that soon makes things worse, and an evaluation after each two steps.
WORSE = (
    "RATE=2.0",
    "WARMUP=4",
    "mlm/recipe.Stage.evaluate=(@recipe.Evaluate(),)",
    "recipe.Evaluate.name='validation'",
    "recipe.Evaluate.batches=2",
    "recipe.Evaluate.every=2",
    "mlm/recipe.Stage.best=@recipe.Best()",
    "recipe.Best.figure='validation/loss'",
    "recipe.Best.lower=True",
)


def losses(workdir):
    lines = [line for line in journal.read(workdir / "mlm") if "validation/loss" in line]
    return {int(line["step"]): line["validation/loss"] for line in lines[:-1]}, lines[-1]["validation/loss"]


@pytest.fixture(scope="module")
def chosen(tiny, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("chosen")
    return workdir, run.run(tiny(*WORSE), str(workdir), until="mlm", console=QUIET)["mlm"]


def test_the_best_checkpoint_is_the_one_that_is_handed_on_and_scored(chosen):
    workdir, done = chosen
    seen, final = losses(workdir)
    best = min(seen, key=lambda step: seen[step])
    assert list(seen) == [2, 4, 6, 8, 10, 12] and best < 12, "the run must get worse, or this shows nothing"
    assert done["step"] == best == checkpoint.steps(workdir / "mlm" / "checkpoints")[-1]
    assert final == seen[best] == done["scores"]["validation/loss"]
    assert done["spent"]["flops"] > checkpoint.manifest(workdir / "mlm")["spent"]["flops"], "all steps were paid for"


def test_patience_ends_the_stage_early(chosen, tiny, tmp_path):
    workdir, _ = chosen
    seen, _ = losses(workdir)
    run.run(tiny(*WORSE, "recipe.Best.patience=1"), str(tmp_path), until="mlm", console=QUIET)
    fewer, _ = losses(tmp_path)
    first_worse = next(step for step in seen if step > 2 and seen[step] >= min(seen[s] for s in seen if s < step))
    assert list(fewer) == [step for step in seen if step <= first_worse] and len(fewer) < len(seen)


@pytest.mark.parametrize("stop", [5, 11])
def test_a_stop_changes_nothing(chosen, tiny, tmp_path, monkeypatch, stop):
    _, done = chosen
    taken, put = [0], mesh.put

    def counted(batch, over):
        if "weights" in batch:
            taken[0] += 1
            if taken[0] == stop:
                signal.raise_signal(signal.SIGTERM)
        return put(batch, over)

    monkeypatch.setattr(mesh, "put", counted)
    with pytest.raises(recipe.Preempted):
        run.run(tiny(*WORSE), str(tmp_path), until="mlm", console=QUIET)
    again = run.run(tiny(*WORSE), str(tmp_path), until="mlm", console=QUIET)["mlm"]
    assert (again["step"], again["params_digest"]) == (done["step"], done["params_digest"])


def test_a_figure_that_is_not_there_is_refused(tiny):
    stage = tiny(*WORSE).value.stages[0]
    odd = dataclasses.replace(stage, best=recipe.Best(figure="validation/f1"))
    with pytest.raises(recipe.Mistake, match="'validation/f1', and the evaluation gives validation/loss; name one"):
        selection.Selection(odd, None).see(2, {"validation/loss": 1.0})
    unseen = dataclasses.replace(stage, best=recipe.Best(figure="test/loss"))
    (problem,) = problems.find(recipe.Recipe(name="x", stages=(unseen,)))
    assert "'test/loss' is of no evaluation that has `every`, which are ['validation']" in problem


def test_what_is_no_number_is_never_the_best(tiny):
    found = selection.Selection(tiny(*WORSE).value.stages[0], None)
    for step, loss in ((2, float("nan")), (4, 3.0), (6, float("nan")), (8, 2.0)):
        found.see(step, {"validation/loss": loss})
        assert found.step == {2: None, 4: 4, 6: 4, 8: 8}[step]


def test_a_mixture_is_scored_part_by_part_and_by_their_plain_mean():
    def answer(part, predicted, wanted):
        return scores.Answer(part=part, predicted=np.array(predicted), wanted=np.array(wanted))

    answers = [answer(0, [1, 1], [1, 1]), answer(0, [0], [0]), answer(2, [1, 0, 0, 0], [1, 1, 1, 1])]
    found = evaluate.by_part(scores.Accuracy(), answers, ("en", "de", "hi"))
    assert found["accuracy/en"] == 1.0 and found["accuracy/hi"] == 0.25
    assert found["accuracy"] == pytest.approx((1.0 + 0.25) / 2) and "accuracy/de" not in found
    assert evaluate.by_part(scores.Accuracy(), answers[:2], ("en",))["accuracy"] == 1.0

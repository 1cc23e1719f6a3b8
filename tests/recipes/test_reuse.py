"""Continued pretraining: where the blends change, what each ablation changes, and the rates that are applied."""

import dataclasses
import json

import pytest
import rich.console

from recipes import config, epochs, plan, run, schedules
from recipes.report import bindings, blends

QUIET = rich.console.Console(quiet=True)
ABLATIONS = sorted(path.stem for path in config.shipped("recipes/reuse/ablations"))
BLENDS = ("PRETRAINING=(('aa', 1.0), ('bb', 1.0))", "GENERAL=(('aa', 1.0),)", "QUESTIONS=(('bb', 1.0),)")


def rate(stage, step, clock=0):
    return stage.optimizer.rate(stage.steps, offset=clock)(step)


def test_nemotron_has_its_parameters_and_changes_its_blend_at_71_percent():
    of = config.load("reuse/nemotron_15b").value
    planned = plan.make(of, devices=128)
    assert not planned.problems
    base, general, qa = of.stages
    assert {stage["params"] for stage in planned.stages} == {15_628_775_424}
    assert general.steps / (general.steps + qa.steps) == pytest.approx(0.711, abs=5e-4)
    assert planned.stages[1]["tokens"] + planned.stages[2]["tokens"] == pytest.approx(3e11, rel=1e-4)
    assert planned.stages[0]["tokens"] == pytest.approx(8e12, rel=1e-4)
    assert rate(base, base.steps) == rate(general, 0) == pytest.approx(4.5e-5)
    assert rate(general, general.steps - 1) > 9e-6 >= rate(qa, 0, general.steps)
    assert rate(qa, qa.steps, general.steps) == pytest.approx(4.5e-7)
    assert dict(qa.data.rates)["world_knowledge"] == pytest.approx(0.1 * 40.4 / 99.6)
    assert sum(dict(qa.data.rates)[part] for part, _ in general.data.rates) == pytest.approx(0.9)


def facts(of):
    """What the ablations may change, of the two stages behind the base."""
    _, general, qa = of.stages
    found = {
        "switch": general.steps / (general.steps + qa.steps),
        "kind": type(general.optimizer.schedule).__name__,
        "first": rate(general, 0) / 4.5e-5,
        "highest": max(rate(general, step) for step in range(0, general.steps, 53)) / 4.5e-5,
        "last": rate(qa, qa.steps, general.steps) / 4.5e-5,
        "carry": general.start.carry,
        "general": general.data.rates,
        "qa": qa.data.rates,
    }
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in found.items()}


CHANGES = {
    "new_optimizer": {"carry"},
    "rewarmup": {"switch", "first", "highest"},
    "t4_order": {"general", "switch"},
    "t4_pretraining": {"general", "qa"},
    "t4_questions_first": {"general"},
    "t8_tenth": {"last", "switch"},
    "t8_zero": {"last", "switch"},
    "t9_fiftieth": {"switch"},
    "t9_half": {"switch"},
    "t9_tenth": {"switch"},
    "wsd": {"kind", "switch"},
}
SWITCHES = {"t4_order": 0.833, "t9_half": 0.503, "t9_tenth": 0.805, "t9_fiftieth": 0.936}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_one_thing(name):
    of, whole = config.load(f"reuse/ablations/{name}").value, config.load("reuse/nemotron_15b").value
    assert of.stages[0] == whole.stages[0] and [s.model for s in of.stages] == [s.model for s in whole.stages]
    changed, same = facts(of), facts(whole)
    assert {fact for fact in same if changed[fact] != same[fact]} == CHANGES[name]
    assert changed["switch"] == SWITCHES.get(name, changed["switch"])
    assert sum(stage.steps for stage in of.stages[1:]) == sum(stage.steps for stage in whole.stages[1:])


def test_the_small_grid_has_every_ablation_and_each_changes_the_same_things():
    of = config.load("reuse/small/grid").value
    base = of.stages[0]
    assert {stage.name for stage in of.stages} == {
        "base", "general", "qa", *ABLATIONS, *(f"{name}_general" for name in ABLATIONS),
    }  # fmt: skip

    def ablated(name):
        return dataclasses.replace(of, stages=(base, of.stage(f"{name}_general"), of.stage(name)))

    same = facts(dataclasses.replace(of, stages=(base, of.stage("general"), of.stage("qa"))))
    horizon = of.stage("general").steps + of.stage("qa").steps
    for name in ABLATIONS:
        changed = facts(ablated(name))
        assert {fact for fact in same if changed[fact] != same[fact]} == CHANGES[name], name
        assert of.stage(name).start.source == f"{name}_general"
        assert sum(stage.steps for stage in ablated(name).stages[1:]) == horizon
    assert not plan.make(of, devices=1).problems


def test_what_is_left_after_the_switch_and_the_rate_that_a_schedule_ends_with():
    cosine = schedules.Cosine(peak=2.0, steps=1000, final=0.1, offset=100)
    assert schedules.steps_until(cosine, 0.5) + schedules.steps_after(cosine, 0.5) == 900
    assert schedules.final_rate(cosine) == pytest.approx(0.2)
    for asked in (lambda of: schedules.steps_after(of, 0.5), schedules.final_rate):
        with pytest.raises(ValueError, match="Cosine has no horizon yet"):
            asked(dataclasses.replace(cosine, steps=None))


def test_epochs_are_counted_along_the_handoffs_and_warned_of(tiny):
    of = tiny(*BLENDS, "MAX_EPOCHS=1.5", name="reuse/decoder").value
    base, general, qa = (epochs.counted(of, stage) for stage in of.stages)
    assert set(base) == set(qa) == {"aa", "bb"} and set(general) == {"aa"}
    rows = [stage.steps * stage.batch for stage in of.stages]
    windows = {part.name: part.tokens // 32 for part in of.stages[0].data.open()}
    assert general["aa"] == pytest.approx((rows[0] / 2 + rows[1]) / windows["aa"])
    assert qa["aa"] == pytest.approx((rows[0] / 2 + rows[1] + 0.9 * rows[2]) / windows["aa"])
    assert qa["bb"] == pytest.approx((rows[0] / 2 + 0.1 * rows[2]) / windows["bb"])
    assert not epochs.warnings(of, of.stages[2])
    tight = tiny(*BLENDS, f"MAX_EPOCHS={qa['aa'] * 0.99}", name="reuse/decoder").value
    (line,) = epochs.warnings(tight, tight.stages[2])
    assert "stage 'qa' aa" in line and "bb" not in line and not epochs.warnings(tight, tight.stages[0])
    planned = plan.make(tight, devices=1)
    assert planned.stages[2]["warnings"] == [line] and line in "\n".join(plan.lines(planned))
    assert not planned.problems
    free = tiny(*BLENDS, "MAX_EPOCHS=None", name="reuse/decoder").value
    assert epochs.counted(free, free.stages[2]) == {}


@pytest.mark.parametrize("kind", ["decoder", "encoder", "seq2seq"])
def test_a_model_is_pretrained_and_continued_under_one_schedule(tiny, tmp_path, kind):
    resolved = tiny(*BLENDS, "recipe.Stage.log_every=1", "SAVE_STEPS=100", name=f"reuse/{kind}")
    run.run(resolved, str(tmp_path), console=QUIET)
    rates = []
    for stage in resolved.value.stages:
        lines = [json.loads(line) for line in (tmp_path / stage.name / "metrics.jsonl").read_text().splitlines()]
        rates.append([line["learning_rate"] for line in lines if "learning_rate" in line])
        assert len(rates[-1]) == stage.steps
    final = schedules.final_rate(resolved.value.stages[0].optimizer.schedule)
    assert rates[1][0] == pytest.approx(final, rel=1e-5)
    assert rates[1][-1] > final / 5 >= rates[2][0]
    assert rates[1] + rates[2] == sorted(rates[1] + rates[2], reverse=True)
    kept = json.loads((tmp_path / "general" / "handoff.json").read_text())
    assert kept["opt_state_carried"] > 0


def test_the_report_reads_the_shares_of_joined_blends():
    text = config.load("reuse/nemotron_15b").text
    found = blends.composition(bindings.Bindings(text), "qa/recipe.Stage", {}, None)
    shares = {part["name"]: part["share"] for part in found["parts"]} if found else {}
    assert found and found["rule"] == "explicit rates"
    assert shares["world_knowledge"] == pytest.approx(0.1 * 40.4 / 99.6, rel=1e-4) and len(shares) == 15

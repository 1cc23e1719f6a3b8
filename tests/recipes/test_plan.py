"""A plan tells what will happen and what it costs, on shapes alone."""

import json
import math

import pytest

from recipes import cli, config, plan

STORE = "STORE='stores/none'"


@pytest.fixture(scope="module")
def planned():
    return plan.make(config.load("mlm_then_seq2seq", [STORE]).value, devices=1)


@pytest.mark.parametrize("path", config.shipped(), ids=lambda path: path.stem)
def test_every_shipped_recipe_composes(path):
    """The cheapest insurance against a wasted day: models, handoffs, freezing, meshes and costs of each, abstractly."""
    needs = [STORE] if "STORE = %gin.REQUIRED" in path.read_text() else []
    found = plan.make(config.load(path, needs).value, devices=1)
    assert not found.problems
    assert all(stage["flops"] > 0 and stage["trainable_params"] > 0 for stage in found.stages)


@pytest.mark.parametrize("path", config.shipped("handoffs"), ids=lambda path: path.stem)
def test_every_shipped_handoff_loads(path):
    from recipes import recipe

    rules = config.load(path, [f"{path.stem}/Handoff.source='x'"], of=recipe.Handoff, scope=path.stem).value
    assert rules.takes


def test_freezing_shows_in_what_is_trained_and_in_what_it_costs(planned):
    mlm, frozen, unfrozen = planned.stages
    assert mlm["trainable_params"] == mlm["params"] and unfrozen["trainable_params"] == unfrozen["params"]
    assert frozen["params"] == unfrozen["params"] > 2 * frozen["trainable_params"] - frozen["params"] * 0.1
    per_step = [stage["flops"] / stage["steps"] for stage in (frozen, unfrozen)]
    assert per_step[0] < 0.75 * per_step[1]
    units = [stage["training_units"] / stage["steps"] for stage in (mlm, frozen, unfrozen)]
    assert units[1] / units[0] == pytest.approx(1.5) and units[2] / units[0] == pytest.approx(2.0)
    assert frozen["bytes_per_device"]["opt_state"] < unfrozen["bytes_per_device"]["opt_state"]


def test_totals_are_sums_and_one_unit_is_what_the_paper_calls_one():
    wide = ["WIDTH=1024", "HEADS=16", "MLP=4096", "BATCH=2048", "MLM_STEPS=500000", "FROZEN_STEPS=200000"]
    found = plan.make(config.load("mlm_then_seq2seq", [STORE, *wide, "UNFROZEN_STEPS=150000"]).value, devices=1)
    assert [round(stage["training_units"], 2) for stage in found.stages] == [5.0, 3.0, 3.0]
    for name, total in found.totals.items():
        assert total == pytest.approx(sum(stage[name] for stage in found.stages))


def test_json_is_what_the_documentation_says(capsys):
    assert cli.main(["plan", "mlm_then_seq2seq", "--json", "--devices", "1", "--set", STORE]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"recipe", "stages", "totals", "problems"} and set(found["totals"]) == {
        "tokens",
        "flops",
        "training_units",
    }
    for stage in found["stages"]:
        assert {"name", "params", "trainable_params", "steps", "tokens", "flops", "training_units", "handoff"} <= set(
            stage
        )
    assert found["stages"][1]["handoff"]["source"] == "mlm"
    assert found["problems"] == []


def test_text_names_stages_handoffs_and_every_parameter_on_request(planned):
    short, full = "\n".join(plan.lines(planned)), "\n".join(plan.lines(planned, full=True))
    assert "handoff from mlm" in short and "no problems found" in short
    assert "decoder/final_norm/bias" in full and "decoder/final_norm/bias" not in short


def test_bytes_per_device_follow_the_mesh():
    def per_device(*mesh):
        found = plan.make(config.load("mlm_then_seq2seq", [STORE, *mesh]).value, devices=8)
        assert not found.problems
        return found.stages[0]["bytes_per_device"]["params"]

    copies, split = per_device(), per_device("recipe.Mesh.data=1", "recipe.Mesh.fsdp=-1")
    assert copies / 8 < split < copies / 5


UNITS = {  # facts of Soltan et al. 2023, recalled; the arithmetic closes exactly (see gin/stages/soltan2023/base.gin)
    "roberta_12e": 5.00,
    "bart_12e12d": 10.00,
    "bart_12e12d_mask": 10.00,
    "bart_12e2d": 5.83,
    "bart_12e2d_mask": 5.83,
    "bart_12e1d_mask": 5.42,
    "bart_12e12d_mlm": 11.00,
    "two_stage_bart_12e12d": 12.50,
    "two_stage_bart_12e12d_attn_f": 12.50,
    "two_stage_bart_12e12d_unfrz": 11.00,
}


@pytest.mark.parametrize("name", UNITS)
def test_the_ten_models_of_the_first_paper_cost_what_it_says(name):
    planned = plan.make(config.load(f"soltan2023/{name}").value)
    assert round(planned.totals["training_units"], 2) == UNITS[name] and not planned.problems


METRO = {  # of the main encoder: in its layers, and with its token table and heads; then the auxiliary's own; millions
    "base": (85, 183, 29),
    "base_plus_plus": (85, 183, 29),
    "large": (302, 434, 52),
    "large_plus_plus": (302, 434, 77),
    "xl": (1360, 1557, 342),
    "xxl": (5438, 5831, 1369),
}


@pytest.mark.parametrize("name", METRO)
def test_the_sizes_of_metro_have_the_parameters_that_their_files_say(name):
    """The paper's largest has 5.4 billion (found): the layers' sum, where the token table is left out."""
    loaded = config.load(f"metro/{name}", [STORE]).value
    leaves, planned = loaded.stages[0].model.abstract(), plan.make(loaded, devices=256)
    layers, main, auxiliary = (
        sum(math.prod(leaf.shape) for path, leaf in leaves.items() if path.startswith(prefix))
        for prefix in ("main/encoder/", "main/", "auxiliary/")
    )
    assert tuple(round(count / 1e6) for count in (layers, main, auxiliary)) == METRO[name]
    assert planned.stages[0]["params"] == main + auxiliary and not planned.problems


def test_a_kernel_is_planned_where_it_serves_and_refused_where_its_length_does_not_fit(planned):
    fused = plan.make(config.load("mlm_then_seq2seq", [STORE, "Stack.attention='splash'"]).value, devices=1)
    assert [stage["flops"] for stage in fused.stages] == [stage["flops"] for stage in planned.stages]
    found = plan.make(
        config.load("mlm_then_seq2seq", [STORE, "Stack.attention='splash'", "LENGTH=200"]).value, devices=1
    ).problems
    assert any("stage 'mlm': encoder: attention 'splash' takes lengths" in line for line in found), found
    assert all("\n" not in line for line in found)

"""Pairs in recipes: Fast-ELECTRA end to end, what a step costs, what goes in and comes out by handoff, what is refused."""

import contextlib
import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rich.console
from etils import epath

from models import encdec, encoder, heads, pair
from recipes import (
    checkpoint,
    config,
    costing,
    denoised,
    finetune,
    handoff,
    journal,
    leafwise,
    lineage,
    mesh,
    plan,
    recipe,
    run,
    start,
    trained,
)
from recipes import state as states_
from recipes import step as steps
from tasks import spans as spans_

QUIET = rich.console.Console(quiet=True)


def params(workdir, stage):
    root = workdir / stage / "checkpoints" / str(checkpoint.manifest(workdir / stage)["step"])
    return checkpoint.read(root, checkpoint.abstract(root))


def test_fast_electra_runs_from_its_own_mlm_stage_and_its_auxiliary_stays(tiny, tmp_path):
    resolved = tiny("Stage.log_every=2", name="metro/fast_electra")
    held = (recipe.Evaluate(name="held", batches=2),)
    both = tuple(dataclasses.replace(stage, evaluate=held) for stage in resolved.value.stages)
    resolved = dataclasses.replace(resolved, value=dataclasses.replace(resolved.value, stages=both))
    done = run.run(resolved, str(tmp_path), console=QUIET)
    before, after = params(tmp_path, "mlm"), params(tmp_path, "fast_electra")
    kept = {path for path in after if path.startswith("auxiliary/")}
    assert kept == {f"auxiliary/{path}" for path in before}
    for path in kept:
        np.testing.assert_array_equal(before[path.removeprefix("auxiliary/")], after[path])
    fresh = resolved.value.stages[1].model.init(jax.random.key(0))
    assert (after["main/rtd_head/out/kernel"] != fresh["main/rtd_head/out/kernel"]).any()
    names = checkpoint.abstract(tmp_path / "fast_electra" / "checkpoints" / "8", "opt_state")
    assert names and not any("auxiliary" in name for name in names)
    lines = [line for line in journal.read(tmp_path / "fast_electra") if "temperature" in line]
    hot = [line["temperature"] for line in lines]
    schedule = resolved.value.stages[1].loss.temperature
    np.testing.assert_allclose(
        hot, [schedule(jnp.asarray([step, step + 1])).mean() for step in (0, 2, 4, 6)], rtol=1e-5
    )
    assert hot[0] > 1.2 > hot[-1] > 1
    scores = done["fast_electra"]["scores"]
    assert scores["held/temperature"] == pytest.approx(1, abs=1e-3) and 0 < scores["held/rtd_auc"] < 1
    assert scores["held/loss"] == pytest.approx(scores["held/rtd"]) and scores["held/replaced"] > 0.01


def sized(stage, layers, width=128, **fields):
    """A stage of a pair that is nearly all layers, the auxiliary `layers` deep and the main encoder 12."""
    body = dataclasses.replace(
        stage.model.main, layers=12, width=width, mlp=4 * width, dropout=0.0, attention_dropout=0.0
    )
    model = dataclasses.replace(stage.model, main=body, auxiliary=dataclasses.replace(body, layers=layers), **fields)
    return dataclasses.replace(stage, model=model)


@pytest.mark.parametrize(("layers", "saved"), [(4, 0.17), (6, 0.22), (8, 0.27)])
def test_a_frozen_auxiliary_saves_what_the_cost_model_says(tiny, layers, saved):
    stage = sized(tiny(name="metro/fast_electra").value.stages[1], layers, width=768)
    frozen = costing.of_stage(stage)
    joint = costing.of_stage(dataclasses.replace(stage, frozen=()))
    own = sum(part.forward_flops for part in stage.model.costs(1, 32, 0, 5) if part.name.startswith("auxiliary"))
    rest = sum(part.forward_flops for part in stage.model.costs(1, 32, 0, 5) if part.name.startswith("main"))
    assert own / rest == pytest.approx(layers / 12, rel=0.03)
    assert 1 - frozen.flops / joint.flops == pytest.approx(saved, abs=0.02)
    assert frozen.forward == joint.forward


def test_the_small_comparison_is_at_equal_updates_and_at_equal_compute():
    stages = {stage.name: stage for stage in config.load("metro/small/grid", ["STORE='none'"]).value.stages}
    assert len({stages[name].steps for name in ("mlm", "electra", "metro", "fast_electra")}) == 1
    flops = {name: costing.of_stage(stage).flops * stage.steps for name, stage in stages.items()}
    flops["fast_electra_long"] += flops["auxiliary"]
    for name in ("mlm_long", "electra_long", "fast_electra_long"):
        assert stages[name].steps > stages["metro"].steps
        assert flops[name] == pytest.approx(flops["metro"], rel=1e-3)


def test_the_compiler_counts_the_joint_and_the_frozen_step_the_same(tiny):
    """XLA's own count falls as the ledger's does: no backward pass is left of a frozen auxiliary."""
    over = mesh.build(recipe.Mesh(), jax.devices()[:1])
    stage = sized(tiny(name="metro/fast_electra").value.stages[1], 2, width=64, auxiliary_dtype="float32")
    unrolled = {side: dataclasses.replace(of, layers=2, unroll=2) for side, of in stage.model.stacks.items()}
    frozen = dataclasses.replace(stage, model=dataclasses.replace(stage.model, **unrolled))
    joint = dataclasses.replace(frozen, frozen=(), loss=dataclasses.replace(frozen.loss, mlm=1.0))
    counted, expected = {}, {}
    for name, each in (("joint", joint), ("frozen", frozen)):
        layout = states_.layout(each, recipe.Rules(), over)
        shapes = {
            key: jax.ShapeDtypeStruct(shape, dtype, sharding=mesh.rows(over))
            for key, (shape, dtype) in each.data.spec(each.batch).items()
        }
        compiled = steps.lower_train(each, recipe.Rules(), layout, shapes).compile()
        counted[name], expected[name] = compiled.cost_analysis()["flops"], costing.of_stage(each).flops
    assert expected["frozen"] < 0.8 * expected["joint"]
    assert counted["frozen"] / counted["joint"] == pytest.approx(expected["frozen"] / expected["joint"], abs=0.06)


def test_copying_everywhere_costs_the_output_at_every_place_and_once_more(tiny):
    stage = tiny(name="metro/base").value.stages[0]
    everywhere = dataclasses.replace(stage, loss=dataclasses.replace(stage.loss, clm=denoised.Everywhere()))
    output = 2 * stage.batch * stage.model.main.width * stage.model.vocabulary
    more = costing.of_stage(everywhere).flops - costing.of_stage(stage).flops
    assert more == pytest.approx(3 * output * (32 * 4 / 3 - stage.data.objective.masked(32)), rel=0.01)


def handed(name, source, model, values):
    """The parameters that a shipped handoff makes of `values` for `model`."""
    rules = config.load(name, [f"{name}/Handoff.source = 'before'"], of=recipe.Handoff, folder="handoffs", scope=name)
    planned = handoff.plan(rules.value, handoff.offered(source.abstract(), source.sums), model.abstract())
    assert not planned.problems
    return handoff.execute(planned, lambda path: np.asarray(values[path]), lambda path, array: jnp.asarray(array))


def shared(tiny, sharing):
    """A pair that shares so, with parameters that differ from their initial ones throughout, and a batch."""
    model = dataclasses.replace(tiny(name="metro/base").value.stages[0].model, sharing=sharing)
    rng = np.random.default_rng(1)
    values = {
        path: jnp.asarray(0.1 * rng.normal(size=leaf.shape), jnp.float32) for path, leaf in model.abstract().items()
    }
    batch = model.example() | {"encoder_inputs": jnp.asarray([[7, 300]]), "target_positions": jnp.asarray([[0, 1]])}
    return model, values, batch | {"encoder_segments": jnp.ones((1, 2), jnp.int32)}


SHARINGS = [pair.Shared(), pair.Shared(paths=(r"token_embedder/.*", r"encoder/relative_bias/.*")), pair.Apart()]
SHARINGS += [pair.Disentangled()]


@pytest.mark.parametrize("sharing", SHARINGS)
def test_the_main_and_the_auxiliary_come_out_as_encoders_with_the_same_logits(tiny, sharing):
    model, values, batch = shared(tiny, sharing)
    for name, taken, run_ in (
        ("main_from_pair", "main", model.apply),
        ("auxiliary_from_pair", "auxiliary", model.generate),
    ):
        alone = model.models[taken]
        assert isinstance(alone, encoder.Encoder)
        made, there = alone.apply(handed(name, model, alone, values), batch), run_(values, batch)
        np.testing.assert_array_equal(made.hidden, there.hidden)
        np.testing.assert_array_equal(made.readout.logits(made.hidden), there.readout.logits(there.hidden))
        if taken == "main":
            np.testing.assert_array_equal(made.logits, there.logits)


@pytest.mark.parametrize("sharing", SHARINGS[-1:])
def test_a_table_that_is_a_sum_goes_into_a_seq2seq_model_a_fine_tuned_one_and_a_new_checkpoint(tiny, tmp_path, sharing):
    model, values, batch = shared(tiny, sharing)
    assert f"main/{pair.TABLE}" not in values and np.abs(values[f"main/{pair.DIFFERENCE}"]).max() > 0.1
    table = values[f"auxiliary/{pair.TABLE}"] + values[f"main/{pair.DIFFERENCE}"]
    bare = dataclasses.replace(model.models["main"], head=None)
    states = bare.apply(
        {path: x for path, x in model.side("main", values).items() if "_head" not in path}, batch
    ).hidden
    both = encdec.EncoderDecoder(encoder=model.main, decoder=model.main, vocabulary=model.vocabulary)
    made = both.init(jax.random.key(0)) | handed("seq2seq_from_pair", model, both, values)
    np.testing.assert_array_equal(made[pair.TABLE], table)
    np.testing.assert_allclose(both.encode(made, batch), states, atol=1e-6)

    recipe_ = tiny(name="metro/base")
    stage = dataclasses.replace(recipe_.value.stages[0], model=model)
    manifest = lineage.manifest(
        resolved=recipe_, stage=stage, step=0, clock=0, spent={}, skipped=0, streak=0, best=None, digest=None,
        start={"lineage": []},
    )  # fmt: skip
    with leafwise.Writer(tmp_path / "metro", 0, manifest) as writer:
        for path, value in values.items():
            writer.put(path, np.asarray(value))
    source = trained.Trained(
        folder=str(tmp_path / "metro"), model=model, manifest=manifest, paths=tuple(model.abstract())
    )
    task = config.load("cldr_label", ["VOCABULARY='bytes'"], of=finetune.Task, folder="tasks").value
    (tuned,) = finetune.stages(task, source, [(1e-3, 0)])
    of = recipe.Recipe(name="x", stages=(tuned,))
    assert not [line for line in plan.make(of).problems if "handoff" in line]
    over = mesh.build(recipe.Mesh(), jax.devices()[:1])
    layout = states_.layout(tuned, recipe.Rules(), over)
    (tmp_path / "run" / tuned.name).mkdir(parents=True)
    with contextlib.closing(checkpoint.Checkpoints(tmp_path / "run" / tuned.name, recipe.Save())) as checkpoints:
        begun = start.decide(tuned, layout, checkpoints, epath.Path(tmp_path / "run")).state.params
    np.testing.assert_array_equal(begun[pair.TABLE], table)
    alone = dataclasses.replace(tuned.model, head=None)
    body = {path: x for path, x in begun.items() if "_head" not in path}
    np.testing.assert_allclose(alone.apply(body, batch).hidden, states, atol=1e-6)


def test_an_encoder_becomes_both_of_a_new_pair(tiny):
    stage = tiny("AUXILIARY_LAYERS=4", "LAYERS=6", name="metro/base").value.stages[0]
    source = encoder.Encoder(stack=stage.model.main, head=heads.MaskedLM(), vocabulary=stage.model.vocabulary)
    values = source.init(jax.random.key(2))
    for sharing in (pair.Shared(), pair.Apart()):
        model = dataclasses.replace(stage.model, sharing=sharing)
        made = handed("pair_from_encoder", source, model, values)
        kernel = "encoder/layers/mlp/wi/kernel"
        np.testing.assert_array_equal(made[f"main/{kernel}"], values[kernel])
        np.testing.assert_array_equal(made[f"auxiliary/{kernel}"], values[kernel][:4])
        np.testing.assert_array_equal(made["auxiliary/mlm_head/bias"], values["mlm_head/bias"])
        assert ("auxiliary/token_embedder/embedding" in made) == isinstance(sharing, pair.Apart)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (["fast_electra/Stage.frozen=()"], r"mlm = None and auxiliary/.* would still decay; freeze r'auxiliary/\.\*'"),
        (["fast_electra/metro.Metro.mlm=1.0"], r"weight for mlm and the auxiliary is frozen; set mlm = None"),
        (["fast_electra/metro.Metro.clm=@denoised.AtTargets()"], r"head, ReplacedToken, has no MaskedLM; change one"),
    ],
)
def test_terms_that_do_not_fit_are_problems_of_the_plan(tiny, changes, problem):
    planned = plan.make(tiny(*changes, name="metro/fast_electra").value)
    assert any(re.search(problem, line) for line in planned.problems), planned.problems


def test_other_models_and_other_data_are_problems_too(tiny):
    first, second = tiny(name="metro/fast_electra").value.stages
    assert (
        "trains a Pair and the model is Encoder"
        in second.loss.problems(dataclasses.replace(second, model=first.model))[0]
    )
    spans = dataclasses.replace(second.data, objective=spans_.SpanCorruption(), targets=16)
    assert "gives no target_positions" in second.loss.problems(dataclasses.replace(second, data=spans))[0]
    shared = dataclasses.replace(second, model=dataclasses.replace(second.model, sharing=pair.Shared()))
    assert "the table it shares isn't" in second.loss.problems(shared)[0]
    alone = dataclasses.replace(second, model=first.model, start=None, frozen=())
    planned = plan.make(recipe.Recipe(name="x", stages=(first, alone)))
    assert [stage["name"] for stage in planned.stages] == ["mlm"], "what a loss costs is asked of a model that fits it"
    assert ["trains a Pair and the model is Encoder" in line for line in planned.problems] == [True]


def test_the_main_encoder_is_what_a_pair_fine_tunes(tiny):
    stage = tiny(name="metro/base").value.stages[0]
    source = trained.Trained(
        folder="runs/metro", model=stage.model, manifest={"vocabulary": None}, paths=tuple(stage.model.abstract())
    )
    task = config.load("cldr_label", ["VOCABULARY='bytes'"], of=finetune.Task, folder="tasks").value
    (made,) = finetune.stages(task, source, [(1e-3, 0)])
    planned = handoff.plan(made.start, stage.model.abstract(), made.model.abstract())
    assert not planned.problems and made.model.stack == stage.model.main
    assert {entry.source.split("/")[0] for entry in planned.taken} == {"main"}

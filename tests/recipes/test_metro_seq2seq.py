"""METRO for encoder-decoders: what each loss moves, its sums by hand, what the decoder sees, what comes out of the pair."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rich.console

from models import encdec, encoder, heads, pair, stack
from recipes import (
    config,
    costing,
    denoised,
    finetune,
    handoff,
    journal,
    metro,
    plan,
    recipe,
    run,
    temperatures,
    trained,
)
from tasks import objectives, specials

SHARINGS = [pair.Shared(), pair.Apart(), pair.Disentangled()]
BODY = stack.Stack(layers=2, width=16, heads=2, mlp=24, max_positions=16)
PAIR = pair.Pair(
    main=BODY, decoder=BODY, auxiliary=dataclasses.replace(BODY, layers=1), head=heads.ReplacedToken(), vocabulary=37
)
METRO = metro.Metro(mlm=1.0, clm=denoised.AtTargets(), rtd=50.0)
# With the auxiliary's likeliest token, what is drawn doesn't depend on the row that it stands in.
CERTAIN = dataclasses.replace(METRO, temperature=temperatures.Constant(value=1e-6))
SPECIALS = specials.Specials(size=37, mask=3)
GOAL = objectives.RestoreText(rate=0.3, mask=1.0, random=0.0, keep=0.0)


@pytest.fixture(scope="module", autouse=True)
def quick_compiler():
    """Compiles in half the time, for models too small to run long."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def batch_of(*rows, seed=0):
    """A batch of `GOAL` of length 12; each row is the lengths of its documents, drawn in turn."""
    rng, made = np.random.default_rng(seed), []
    for number, lengths in enumerate(rows):
        row = [rng.integers(4, 37, length).astype(np.int32) for length in lengths]
        made.append(GOAL(row, np.random.default_rng(number), inputs=12, targets=0, specials=SPECIALS))
    return {name: jnp.asarray(np.stack([one[name] for one in made])) for name in made[0]}


def made(model):
    rng = np.random.default_rng(0)
    leaves = model.abstract()
    return {path: jnp.asarray(0.3 * rng.normal(size=leaf.shape), jnp.float32) for path, leaf in leaves.items()}


@pytest.mark.parametrize("sharing", SHARINGS)
def test_each_loss_moves_its_own_part(sharing):
    model, batch = dataclasses.replace(PAIR, sharing=sharing), batch_of([12], [7, 4])
    params = made(model)

    def sums(params):
        found = METRO(model, params, batch, jax.random.key(5))
        return [found[term] for term in METRO.terms]

    reached = {}
    found = jax.jit(jax.jacrev(sums))(params)
    for term, grads in zip(METRO.terms, found, strict=True):
        reached[term] = {path for path, grad in grads.items() if np.abs(grad).max() > 0}
    shared = isinstance(sharing, pair.Shared)
    for term in ("clm", "rtd"):
        assert not any(path.startswith("auxiliary/") for path in reached[term])
        own = pair.DIFFERENCE if isinstance(sharing, pair.Disentangled) else pair.TABLE
        assert {f"main/{own}", "main/encoder/layers/mlp/wi/kernel"} <= reached[term]
    assert "main/decoder/layers/cross_attention/query/kernel" in reached["clm"]
    assert not any("decoder" in path for path in reached["rtd"]) and not any(
        "rtd_head" in path for path in reached["clm"]
    )
    assert {p for p in reached["mlm"] if p.startswith("main/")} == ({f"main/{pair.TABLE}"} if shared else set())
    assert "auxiliary/encoder/layers/mlp/wi/kernel" in reached["mlm"]


def test_sums_and_counts_by_hand():
    """Against logits at all places of both models, the corrupted text written down by hand."""
    batch, params = batch_of([12], [5, 4], [2]), made(PAIR)
    used, real = np.array(batch["weights"]) > 0, np.array(batch["encoder_segments"]) > 0
    assert (used.sum(), real.sum(), used.size) == (4 + 4 + 2, 12 + 9 + 2, 12)
    key = jax.random.key(1)
    _, drawn = METRO._generated(PAIR, params, batch, denoised.keys(key, batch)[0])
    read, original = (np.array(batch["encoder_inputs"]) for _ in range(2))
    for row, slot in zip(*np.nonzero(used)):
        place = batch["target_positions"][row, slot]
        read[row, place], original[row, place] = drawn[row, slot], batch["targets"][row, slot]
    whole = {name: value for name, value in batch.items() if name != "target_positions"} | {"encoder_inputs": read}
    output = jax.jit(PAIR.apply)(params, whole)
    surprise = -np.take_along_axis(
        np.array(jax.nn.log_softmax(output.readout.logits(output.hidden))), original[..., None], axis=-1
    )[..., 0]
    at = [(row, batch["target_positions"][row, slot]) for row, slot in zip(*np.nonzero(used))]
    clm = sum(surprise[row, place] for row, place in at)
    probability = 1 / (1 + np.exp(-np.array(output.logits)))
    rtd = -np.where(read != original, np.log(probability), np.log(1 - probability))[real].sum()
    sums, counts = jax.jit(lambda batch: METRO(PAIR, params, batch, key))(batch), METRO.counts(batch)
    assert {name: int(value) for name, value in counts.items()} == {"mlm": 10, "clm": 10, "rtd": 23}
    np.testing.assert_allclose(sums["clm"], clm, rtol=1e-5)
    np.testing.assert_allclose(sums["rtd"], rtd, rtol=1e-5)
    found = METRO.figures({**sums, **{f"count/{name}": value for name, value in counts.items()}})
    np.testing.assert_allclose(found["loss"], sums["mlm"] / 10 + clm / 10 + 50 * rtd / 23, rtol=1e-5)
    assert found["replaced"] == pytest.approx((read != original).sum() / 23)
    kept = sum(read[place] == original[place] for place in map(tuple, np.array(at)))
    assert (float(sums["stat/clm/kept"]), float(sums["stat/clm/replaced"])) == (kept, 10 - kept)


def test_the_decoder_sees_the_corrupted_text_and_of_the_original_what_lies_before():
    """By the gradient of the state at a target in the second of two documents, ids told apart by where they stand."""
    batch = batch_of([6, 6])
    batch |= {"encoder_inputs": jnp.arange(12)[None], "decoder_inputs": jnp.arange(20, 32)[None]}
    place, batch["target_positions"] = 8, jnp.asarray([[1, 3, 8, 9]])
    main, params = PAIR.models["main"], PAIR.side("main", made(PAIR))

    @jax.jit
    def moves(table):
        def state(rows):
            return main.apply(params | {pair.TABLE: rows}, batch).hidden[0, 2] @ jnp.arange(1.0, 17.0)

        return jnp.abs(jax.grad(state)(table)).max(axis=-1)

    seen = {int(token) for token in np.flatnonzero(np.array(moves(params[pair.TABLE])))}
    assert seen == {*range(6, 12), *range(26, 20 + place + 1)}


def test_packed_rows_have_the_sums_of_rows_of_their_own():
    packed, params = batch_of([7, 5]), made(PAIR)
    apart = {name: np.repeat(np.array(value), 2, axis=0) for name, value in packed.items()}
    second = apart["target_positions"] >= 7
    for row, (first, length) in enumerate(((0, 7), (7, 5))):
        for side in ("encoder", "decoder"):
            for name in ("inputs", "segments", "positions"):
                values = apart[f"{side}_{name}"][row, first : first + length].copy()
                apart[f"{side}_{name}"][row] = 0
                apart[f"{side}_{name}"][row, :length] = np.minimum(values, 1) if name == "segments" else values
        apart["weights"][row] *= second[row] == bool(row)
        apart["target_positions"][row] = np.where(apart["weights"][row] > 0, apart["target_positions"][row] - first, 0)
    assert apart["encoder_inputs"].shape != packed["encoder_inputs"].shape and 0 < apart["weights"][0].sum() < 4
    sums = jax.jit(lambda batch: CERTAIN(PAIR, params, batch, jax.random.key(0)))
    one, two = sums(packed), sums({name: jnp.asarray(value) for name, value in apart.items()})
    for name in ("mlm", "clm", "rtd", "stat/clm/replaced", "stat/rtd/found"):
        np.testing.assert_allclose(one[name], two[name], rtol=1e-5, err_msg=name)


def test_a_run_of_the_recipe_learns_and_tells_all_figures(tiny, tmp_path):
    resolved = tiny("Stage.log_every=2", "METRO_STEPS=8", name="metro/metro_t0_base")
    held = (recipe.Evaluate(name="held", batches=2),)
    stages = (dataclasses.replace(resolved.value.stages[0], evaluate=held),)
    resolved = dataclasses.replace(resolved, value=dataclasses.replace(resolved.value, stages=stages))
    done = run.run(resolved, str(tmp_path), console=rich.console.Console(quiet=True))
    scores = done["metro_seq2seq"]["scores"]
    expected = {"mlm", "clm", "rtd", "loss", "auxiliary_accuracy", "auxiliary_entropy", "replaced", "rtd_auc"}
    assert {f"held/{name}" for name in expected} <= set(scores)
    assert scores["held/loss"] == pytest.approx(
        scores["held/mlm"] + scores["held/clm"] + 50 * scores["held/rtd"], rel=1e-4
    )
    lines = [line for line in journal.read(tmp_path / "metro_seq2seq") if "clm" in line]
    assert lines[-1]["clm"] < lines[0]["clm"] and lines[-1]["mlm"] < lines[0]["mlm"]


def handed(name, source, model, values):
    """The parameters that a shipped handoff makes of `values` for `model`."""
    rules = config.load(name, [f"{name}/Handoff.source = 'before'"], of=recipe.Handoff, folder="handoffs", scope=name)
    planned = handoff.plan(rules.value, source.abstract(), model.abstract())
    assert not planned.problems, planned.problems
    return handoff.execute(planned, lambda path: np.asarray(values[path]), lambda path, array: jnp.asarray(array))


def test_out_of_the_pair_come_the_seq2seq_model_and_its_encoder(tiny):
    model = tiny(name="metro/metro_t0_base").value.stages[0].model
    values, whole = made(model), model.models["main"]
    batch = jax.tree.map(lambda x: x + 1, whole.example())
    expected = model.apply(values, batch)
    bare = dataclasses.replace(whole, head=None)
    for name, alone in (("encdec_from_pair", bare), ("main_from_pair", whole)):
        assert isinstance(alone, encdec.EncoderDecoder)
        found = alone.apply(handed(name, model, alone, values), batch)
        np.testing.assert_array_equal(found.hidden, expected.hidden)
        assert (found.logits is None) == (alone.head is None)
    states = encoder.Encoder(stack=model.main, vocabulary=model.vocabulary)
    found = states.apply(handed("encoder_from_pair", model, states, values), batch)
    np.testing.assert_allclose(found.hidden, expected.encoded, atol=1e-6)
    plain = tiny(name="metro/base").value.stages[0].model
    states = encoder.Encoder(stack=plain.main, vocabulary=plain.vocabulary)
    assert handed("encoder_from_pair", plain, states, made(plain)).keys() == states.abstract().keys()


@pytest.mark.parametrize("task", ["cldr_translate", "cldr_label"])
def test_the_pair_is_fine_tuned_by_its_main_model(tiny, task):
    stage = tiny(name="metro/metro_t0_base").value.stages[0]
    source = trained.Trained(
        folder="runs/t0", model=stage.model, manifest={"vocabulary": None}, paths=tuple(stage.model.abstract())
    )
    of = config.load(task, ["VOCABULARY='bytes'"], of=finetune.Task, folder="tasks").value
    (tuned,) = finetune.stages(of, source, [(1e-3, 0)])
    planned = handoff.plan(tuned.start, stage.model.abstract(), tuned.model.abstract())
    assert not planned.problems and {entry.source.split("/")[0] for entry in planned.taken} == {"main"}
    if task == "cldr_translate":
        assert tuned.model == dataclasses.replace(stage.model.models["main"], head=None) and not planned.fresh
    else:
        assert tuned.model.stack == stage.model.main and {e.target.split("/")[0] for e in planned.fresh} == {
            "token_head"
        }
    # So is the same model after a handoff has taken it out of the pair, head and all.
    alone = dataclasses.replace(stage, model=stage.model.models["main"])
    source = dataclasses.replace(source, model=alone.model, paths=tuple(alone.model.abstract()))
    (again,) = finetune.stages(of, source, [(1e-3, 0)])
    assert (
        again.model == tuned.model
        and not handoff.plan(again.start, alone.model.abstract(), again.model.abstract()).problems
    )


def test_a_step_costs_three_forward_passes_of_both_models(tiny):
    stage = tiny(name="metro/metro_t0_base").value.stages[0]
    parts = {part.name: part.forward_flops for part in stage.model.costs(stage.batch, 32, 32, 5)}
    assert {"auxiliary/encoder", "main/encoder", "main/decoder"} <= parts.keys()
    alone = stage.model.models["main"].costs(stage.batch, 32, 32, 5)
    assert (
        sum(x for name, x in parts.items() if name.startswith("main/")) < sum(part.forward_flops for part in alone) + 1
    )
    assert costing.of_stage(stage).flops == pytest.approx(3 * costing.of_stage(stage).forward)
    plain = tiny(name="metro/base").value.stages[0]
    assert costing.of_stage(stage).flops > 1.5 * costing.of_stage(plain).flops


def changed(stage, part, **fields):
    return dataclasses.replace(stage, **{part: dataclasses.replace(getattr(stage, part), **fields)})


@pytest.mark.parametrize(
    ("part", "fields", "problem"),
    [
        ("loss", {"clm": None}, "clm = None and the Pair's decoder restores at the targets; give AtTargets"),
        ("loss", {"clm": denoised.Everywhere()}, "decoder restores at the targets; give AtTargets"),
        ("model", {"head": None}, "rtd = 50.0 and the Pair's head, NoneType, has no ReplacedToken"),
        ("data", {"objective": objectives.MaskedLM()}, "kind 'encdec' can't learn from data of kind 'encoder'"),
        ("data", {"objective": objectives.Denoise(), "targets": 32}, "gives no target_positions; use MaskedLM or Rest"),
    ],
)
def test_what_does_not_fit_is_a_problem_of_the_plan(tiny, part, fields, problem):
    of = tiny(name="metro/metro_t0_base").value
    assert not plan.make(of).problems
    found = plan.make(dataclasses.replace(of, stages=(changed(of.stages[0], part, **fields),))).problems
    assert any(problem in line for line in found), found

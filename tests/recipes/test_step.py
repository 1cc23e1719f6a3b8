"""One update: accumulation, freezing, counting, all against the same update done another way."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recipes import costing, ledger, mesh, recipe
from recipes import state as states
from recipes import step as steps


@pytest.fixture(scope="module")
def over():
    return mesh.build(recipe.Mesh(), jax.devices()[:1])


@pytest.fixture(scope="module")
def stage(tiny):
    return tiny("RATE=1e-1", "WARMUP=0", "DROPOUT=0.0", "AdamW.eps=1.0").value.stages[2]


@pytest.fixture(scope="module")
def batch(stage):
    feed = stage.data.feed(batch=stage.batch, seed=0)
    rows = next(feed)
    feed.close()
    ragged = rows["weights"] * (np.arange(len(rows["weights"]))[:, None] % 3 > 0)
    return {**rows, "weights": ragged.astype(np.float32)}


def updated(stage, batch, over):
    layout = states.layout(stage, recipe.Rules(), over)
    state = states.begin(layout, states.initial(stage, layout, layout.leaves))
    before = jax.device_get(state.params)
    state, stats = steps.compile_train(stage, recipe.Rules(), layout)(state, mesh.put(batch, over))
    return before, jax.device_get(state), jax.device_get(stats)


@pytest.fixture(scope="module")
def plain(stage, batch, over):
    return updated(stage, batch, over)


def test_accumulation_is_weighted_by_tokens(stage, batch, over, plain):
    parts = dataclasses.replace(stage, accumulate=4)
    weights = batch["weights"].reshape(-1, 4, batch["weights"].shape[1]).sum(axis=(0, 2))
    assert parts.accumulate != stage.accumulate and len(set(weights.tolist())) > 1
    _, one, stats = plain
    _, four, stats4 = updated(parts, batch, over)
    for path in one.params:
        np.testing.assert_allclose(four.params[path], one.params[path], atol=2e-5, err_msg=path)
    for name in ("objective", "grad_norm", "tokens", "stat/correct", "part/loss", "part/weight"):
        np.testing.assert_allclose(stats4[name], stats[name], rtol=1e-5)


def test_the_loss_is_a_mean_over_all_target_tokens(stage, batch, plain):
    _, _, stats = plain
    assert stats["count/loss"] == batch["weights"].sum() > 0
    np.testing.assert_allclose(stats["objective"], stats["loss"] / stats["count/loss"], rtol=1e-6)
    np.testing.assert_allclose(stats["part/loss"].sum(), stats["loss"], rtol=1e-6)
    seen = sum((value > 0).sum() for name, value in batch.items() if name.endswith("_segments"))
    assert stats["tokens"] == seen


def test_frozen_leaves_have_no_share_in_anything(stage, batch, over, plain):
    frozen = dataclasses.replace(stage, frozen=(r"(encoder|token_embedder)/.*",))
    before, state, stats = updated(frozen, batch, over)
    kept = [path for path in before if path.startswith(("encoder/", "token_embedder/"))]
    for path in kept:
        np.testing.assert_array_equal(before[path], state.params[path])
    assert not any(
        "encoder." in name
        for name in map(str, jax.tree_util.tree_leaves_with_path(state.opt_state))
        if "'encoder/" in name
    )
    layout = states.layout(frozen, recipe.Rules(), over)
    assert layout.trainable.isdisjoint(kept)
    moved = {path: value for path, value in before.items() if path in layout.trainable}

    def loss(moved):
        sums = stage.loss(stage.model, {**before, **moved}, {k: jnp.asarray(v) for k, v in batch.items()}, None)
        return sums["loss"] / batch["weights"].sum()

    assert stage.model.encoder.dropout == 0
    norm = np.sqrt(sum((np.asarray(grad) ** 2).sum() for grad in jax.grad(loss)(moved).values()))
    np.testing.assert_allclose(stats["grad_norm"], norm, rtol=1e-4)
    assert stats["grad_norm"] < plain[2]["grad_norm"]


def test_the_compiled_step_has_no_backward_pass_of_what_is_frozen(stage, over):
    """XLA's own count falls by what the ledger says that the frozen part's backward pass costs."""
    big = dataclasses.replace(
        stage.model,
        encoder=dataclasses.replace(stage.model.encoder, width=64, mlp=256, unroll=2),
        decoder=dataclasses.replace(stage.model.decoder, width=64, mlp=256, unroll=2),
    )
    free = dataclasses.replace(stage, model=big)
    frozen = dataclasses.replace(free, frozen=(r"(encoder|token_embedder)/.*",))
    assert free.frozen != frozen.frozen
    counted, expected = {}, {}
    for name, each in (("free", free), ("frozen", frozen)):
        layout = states.layout(each, recipe.Rules(), over)
        shapes = {
            key: jax.ShapeDtypeStruct(shape, dtype, sharding=mesh.rows(over))
            for key, (shape, dtype) in each.data.spec(each.batch).items()
        }
        compiled = steps.lower_train(each, recipe.Rules(), layout, shapes).compile()
        counted[name] = compiled.cost_analysis()["flops"]
        expected[name] = costing.of_stage(each).flops
    assert expected["frozen"] < 0.8 * expected["free"]
    assert counted["frozen"] / counted["free"] == pytest.approx(expected["frozen"] / expected["free"], abs=0.06)
    assert isinstance(costing.of_stage(free), ledger.StageCost)


def test_dropout_follows_the_seed_and_the_step(stage, batch, over):
    wet = dataclasses.replace(
        stage, model=dataclasses.replace(stage.model, encoder=dataclasses.replace(stage.model.encoder, dropout=0.5))
    )
    layout = states.layout(wet, recipe.Rules(), over)
    begun = states.begin(layout, states.initial(wet, layout, layout.leaves))
    update = steps.compile_train(wet, recipe.Rules(), layout)

    def loss(step):
        state = jax.tree.map(jnp.copy, dataclasses.replace(begun, step=states.zero(layout, step)))
        return float(update(state, mesh.put(batch, over))[1]["objective"])

    assert loss(3) == loss(3) != loss(4)

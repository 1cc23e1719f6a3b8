"""What a step on corrupted text costs: as much as an encoder that detects and nothing else, by ledger and by compiler."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from models import encoder, pair
from recipes import config, costing, counts, losses, mesh, recipe
from recipes import state as states
from recipes import step as steps


@dataclasses.dataclass(frozen=True)
class Plain(losses.Loss):
    """Detection by labels that the batch has, and no figure beside: ELECTRA's second half at its plainest."""

    terms = {"rtd": 1.0}

    def counts(self, batch):
        return {"rtd": jnp.sum(batch["encoder_segments"] > 0, dtype=jnp.float32)}

    def __call__(self, model, params, batch, key):
        logits = model.apply(params, batch, key=key).logits
        tokens = jax.nn.softplus(logits) - logits * batch["replaced"]
        tokens = tokens * (batch["encoder_segments"] > 0).astype(jnp.float32)
        rows = {"row/loss": tokens.sum(axis=1), "row/weight": tokens.sum(axis=1)}
        return {"rtd": jnp.sum(tokens)} | jax.lax.stop_gradient(rows)


@dataclasses.dataclass(frozen=True)
class Rows:
    """The spec of a stage's data, in one part."""

    data: object

    def spec(self, batch):
        return self.data.spec(batch)

    def parts(self):
        return ("one",)


@pytest.fixture(scope="module")
def sides(tiny):
    """Stages of one main encoder, mostly layers: joint, frozen, offline, plain."""
    pairs = tiny(name="metro/fast_electra").value.stages[1]
    given = ["STORE='x'", "VOCABULARY=384"]
    (alone,) = config.load("metro/fast_electra_offline", given, overlays=["gin/tiny.gin"]).value.stages
    body = dataclasses.replace(
        pairs.model.main, layers=3, unroll=3, width=256, heads=4, mlp=1024, dropout=0.0, attention_dropout=0.0
    )
    small = dataclasses.replace(body, layers=1, unroll=1)
    both = dataclasses.replace(pairs.model, main=body, auxiliary=small, auxiliary_dtype=None)
    frozen = dataclasses.replace(pairs, model=both, data=Rows(pairs.data))
    offline = dataclasses.replace(alone, model=dataclasses.replace(alone.model, stack=body), data=Rows(alone.data))
    found = {
        "joint": dataclasses.replace(frozen, frozen=(), loss=dataclasses.replace(frozen.loss, mlm=1.0)),
        "frozen": frozen,
        "offline": offline,
        "plain": dataclasses.replace(offline, loss=Plain()),
    }
    assert isinstance(both, pair.Pair) and isinstance(offline.model, encoder.Encoder)
    assert offline.data.spec(8) == frozen.data.spec(8) and offline.loss != found["plain"].loss
    return found


def test_by_the_ledger(sides):
    flops = {name: costing.of_stage(stage).flops for name, stage in sides.items()}
    parts = sides["joint"].model.costs(8, 32, 0, 5)
    auxiliary = sum(part.forward_flops for part in parts if part.name.startswith("auxiliary"))
    assert auxiliary > 0.2 * flops["offline"] / 3
    assert flops["joint"] == pytest.approx(flops["offline"] + 3 * auxiliary)
    assert flops["frozen"] == pytest.approx(flops["offline"] + auxiliary)
    assert flops["offline"] <= 1.02 * flops["plain"]


def test_by_the_compiler(sides):
    """Its figure counts every operation, labels and histograms too; ours of the compiled program the products alone."""
    over = mesh.build(recipe.Mesh(), jax.devices()[:1])
    whole, products = {}, {}
    for name, stage in sides.items():
        layout = states.layout(stage, recipe.Rules(), over)
        spec = stage.data.spec(stage.batch)
        if name == "plain":
            spec = {key: value for key, value in spec.items() if not key.startswith("target")}
            spec["replaced"] = ((8, 32), jnp.float32)
        shapes = {
            key: jax.ShapeDtypeStruct(shape, dtype, sharding=mesh.rows(over)) for key, (shape, dtype) in spec.items()
        }
        compiled = steps.lower_train(stage, recipe.Rules(), layout, shapes).compile()
        whole[name], products[name] = compiled.cost_analysis()["flops"], counts.count(compiled.as_text()).flops
    expected = {name: costing.of_stage(stage).flops for name, stage in sides.items()}
    for counted in (whole, products):
        assert counted["offline"] <= 1.02 * counted["plain"]
        assert counted["offline"] < 0.97 * counted["frozen"] < 0.9 * counted["joint"]
        for name in ("frozen", "offline"):
            ratio = expected[name] / expected["joint"]
            assert counted[name] / counted["joint"] == pytest.approx(ratio, abs=0.05)

"""The loss of a pair: what its gradients reach, its sums and counts by hand, its schedule, its figures."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import heads, pair, stack
from recipes import denoised, detection, metro, temperatures

CASES = [("metro", sharing) for sharing in (pair.Shared(), pair.Apart(), pair.Disentangled())]
CASES += [(variant, pair.Shared()) for variant in ("coco-lm", "electra", "clm only")]
MAIN = stack.Stack(layers=2, width=16, heads=2, mlp=24, max_positions=16)
PAIR = pair.Pair(main=MAIN, auxiliary=dataclasses.replace(MAIN, layers=1), vocabulary=37)
METRO = metro.Metro(mlm=1.0, clm=denoised.AtTargets(), rtd=50.0)
VARIANTS = {
    "metro": (METRO, heads.RestoreAndDetect()),
    "coco-lm": (dataclasses.replace(METRO, clm=denoised.Everywhere()), heads.RestoreAndDetect()),
    "electra": (dataclasses.replace(METRO, clm=None), heads.ReplacedToken()),
    "clm only": (dataclasses.replace(METRO, rtd=None), heads.MaskedLM(dense=False)),
}


@pytest.fixture(scope="module", autouse=True)
def quick_compiler():
    """Compiles in half the time, for models too small to run long."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def batch():
    """Three rows of 12, the last with padding, 4 target slots each, two of them unused."""
    rng = np.random.default_rng(3)
    segments = np.ones((3, 12), np.int32)
    segments[2, 8:] = 0
    weights = np.ones((3, 4), np.float32)
    weights[1, 3] = weights[2, 3] = 0
    where = np.sort(np.stack([rng.permutation(8)[:4] for _ in range(3)]), axis=1)
    where[weights == 0] = 0
    inputs = rng.integers(4, 37, (3, 12))
    targets = rng.integers(4, 37, (3, 4))
    for row, place in zip(*np.nonzero(weights)):
        inputs[row, where[row, place]] = 3
    return {
        "encoder_inputs": jnp.asarray(inputs, jnp.int32),
        "encoder_segments": jnp.asarray(segments),
        "encoder_positions": jnp.broadcast_to(jnp.arange(12, dtype=jnp.int32)[None], (3, 12)),
        "target_positions": jnp.asarray(where, jnp.int32),
        "targets": jnp.asarray(targets, jnp.int32),
        "weights": jnp.asarray(weights),
        "part": jnp.zeros(3, jnp.int32),
    }


def made(model):
    rng = np.random.default_rng(0)
    return {
        path: jnp.asarray(0.3 * rng.normal(size=leaf.shape), jnp.float32) for path, leaf in model.abstract().items()
    }


def gradients(loss, model, params, batch, *kinds):
    """Of the objective made of some terms, for each kind of objective; and the sums."""
    counts = loss.counts(batch)

    def totals(params):
        sums = loss(model, params, batch, jax.random.key(5))
        return [sum(weight * sums[term] / counts[term] for term, weight in each.items()) for each in kinds], sums

    @jax.jit
    def grads(params):
        _, back, sums = jax.vjp(totals, params, has_aux=True)
        ones = np.eye(len(kinds), dtype=np.float32)
        return [back(list(map(jnp.asarray, one)))[0] for one in ones], sums

    found, sums = grads(params)
    return [{path for path, grad in each.items() if np.abs(grad).max() > 0} for each in found], sums


@pytest.mark.parametrize(("variant", "sharing"), CASES)
def test_the_main_losses_reach_the_auxiliary_through_the_shared_table_alone(batch, variant, sharing):
    loss, head = VARIANTS[variant]
    model = dataclasses.replace(PAIR, head=head, sharing=sharing)
    mains = {term: weight for term, weight in loss.terms.items() if term != "mlm"}
    assert mains and len(mains) < len(loss.terms)
    (ours, theirs), _ = gradients(loss, model, made(model), batch, mains, {"mlm": 1.0})
    assert not any(path.startswith("auxiliary/") for path in ours)
    own = pair.DIFFERENCE if isinstance(sharing, pair.Disentangled) else pair.TABLE
    assert {f"main/{own}", "main/encoder/layers/mlp/wi/kernel"} <= ours
    assert "auxiliary/encoder/layers/mlp/wi/kernel" in theirs
    reached = {path for path in theirs if path.startswith("main/")}
    assert reached == ({f"main/{pair.TABLE}"} if isinstance(sharing, pair.Shared) else set())


def test_a_frozen_auxiliary_is_reported_and_gets_no_gradient(batch):
    model = dataclasses.replace(PAIR, sharing=pair.Apart())
    loss, params = dataclasses.replace(METRO, mlm=None), made(model)
    assert loss.terms != METRO.terms
    (moved,), sums = gradients(loss, model, params, batch, loss.terms)
    (everything,), joint = gradients(METRO, model, params, batch, METRO.terms)
    assert moved == {path for path in everything if path.startswith("main/")} != everything
    assert sums.keys() == joint.keys()
    for name, value in sums.items():
        np.testing.assert_allclose(value, joint[name], rtol=1e-5, err_msg=name)


@dataclasses.dataclass(frozen=True)
class Told:
    """A pair whose logits are told: what is drawn is certain, what the main encoder says is written down here."""

    drawn: jax.Array
    detected: jax.Array
    states: jax.Array

    def generate(self, params, batch):
        from models import model, readout

        return model.Output(hidden=100.0 * jax.nn.one_hot(self.drawn, 37), readout=readout.Readout(kernel=jnp.eye(37)))

    def apply(self, params, batch, *, key=None):
        from models import model, readout

        at = batch.get("target_positions")
        states = jnp.broadcast_to(self.states[None, None], (3, 12 if at is None else at.shape[1], 37))
        return model.Output(hidden=states, readout=readout.Readout(kernel=jnp.eye(37)), logits=self.detected)


@pytest.mark.parametrize("variant", ["metro", "coco-lm"])
def test_sums_and_counts_by_hand(batch, variant):
    """Of ten targets one is drawn as it was; 32 tokens are real."""
    drawn = np.array((batch["targets"] + 1) % 37)
    drawn[0, 0] = batch["targets"][0, 0]
    rng = np.random.default_rng(1)
    detected, states = rng.normal(size=(3, 12)), rng.normal(size=37)
    told = Told(jnp.asarray(drawn), jnp.asarray(detected, jnp.float32), jnp.asarray(states, jnp.float32))
    loss, _ = VARIANTS[variant]
    sums, counts = loss(told, {}, batch, jax.random.key(0)), loss.counts(batch)
    original, read = np.array(batch["encoder_inputs"]), np.array(batch["encoder_inputs"])
    used = np.array(batch["weights"]) > 0
    for row, slot in zip(*np.nonzero(used)):
        place = batch["target_positions"][row, slot]
        original[row, place], read[row, place] = batch["targets"][row, slot], drawn[row, slot]
    replaced, real = original != read, np.array(batch["encoder_segments"]) > 0
    assert (used.sum(), replaced.sum(), real.sum()) == (10, 9, 32)
    probability = 1 / (1 + np.exp(-detected))
    rtd = -np.where(replaced, np.log(probability), np.log(1 - probability))
    softmax = np.exp(states) / np.exp(states).sum()
    if variant == "metro":
        clm, divisor = -np.log(softmax[np.array(batch["targets"])][used]).sum(), 10
    else:
        copied = np.where(replaced, 0.0, 1 - probability) + probability * softmax[original]
        clm, divisor = -np.log(copied)[real].sum(), 32
    assert (counts["mlm"], counts["clm"], counts["rtd"]) == (10, divisor, 32)
    np.testing.assert_allclose(sums["clm"], clm, rtol=1e-5)
    np.testing.assert_allclose(sums["rtd"], rtd[real].sum(), rtol=1e-5)
    np.testing.assert_allclose(sums["mlm"], 9 * 100.0, rtol=1e-5)
    np.testing.assert_allclose(sums["row/loss"], np.where(real, rtd, 0).sum(axis=1), rtol=1e-5)
    found = loss.figures({**sums, **{f"count/{name}": value for name, value in counts.items()}})
    expected = 90 + clm / divisor + 50 * rtd[real].sum() / 32
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-5)
    assert found["replaced"] == pytest.approx(9 / 32)
    assert found["auxiliary_accuracy"] == pytest.approx(1 / 10) and found["auxiliary_entropy"] < 1e-3


def test_the_copying_gate_has_the_gradient_of_its_probability(batch):
    """Against the formula differentiated whole, the gate held constant."""
    loss, head = VARIANTS["coco-lm"]
    model = dataclasses.replace(PAIR, head=head)
    params, key = made(model), jax.random.key(5)
    originals, seen = denoised.write(batch, batch["targets"]), {}
    real = (batch["encoder_segments"] > 0).astype(jnp.float32)

    def whole(params):
        output = model.apply(params, seen)
        gate = jax.lax.stop_gradient(jax.nn.sigmoid(output.logits))
        rest = jax.nn.softmax(output.readout.logits(output.hidden))
        picked = jnp.take_along_axis(rest, originals[..., None], axis=-1)[..., 0]
        copied = jnp.where(seen["encoder_inputs"] == originals, 1 - gate, 0.0)
        return -jnp.sum(jnp.log(copied + gate * picked) * real)

    _, drawn = loss._generated(model, params, batch, denoised.keys(key, batch)[0])
    seen = {**batch, "encoder_inputs": denoised.write(batch, drawn)}
    del seen["target_positions"]
    expected, by = jax.jit(jax.value_and_grad(whole))(params)
    found, grads = jax.jit(jax.value_and_grad(lambda params: loss(model, params, batch, key)["clm"]))(params)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    for path, grad in grads.items():
        np.testing.assert_allclose(grad, by[path], atol=2e-4, err_msg=path)
    assert np.abs(grads["main/encoder/layers/mlp/wi/kernel"]).max() > 1e-2


def test_the_area_under_the_curve_is_that_of_all_pairs():
    rng = np.random.default_rng(0)
    replaced = rng.random((8, 50)) < 0.2
    logits, real = rng.normal(size=(8, 50)) + 1.5 * replaced, rng.random((8, 50)) < 0.9
    given = (jnp.asarray(x, jnp.float32) for x in (logits, replaced, real))
    found = detection.figures(detection.tally(*given))
    ours, theirs = logits[real & replaced], logits[real & ~replaced]
    assert found["rtd_auc"] == pytest.approx((ours[:, None] > theirs[None]).mean(), abs=0.005)
    assert found["rtd_accuracy"] == pytest.approx(((logits > 0) == replaced)[real].mean())
    assert found["rtd_precision"] == pytest.approx(replaced[real & (logits > 0)].mean())
    assert found["rtd_recall"] == pytest.approx((ours > 0).mean())
    assert set(detection.figures(detection.tally(*(jnp.zeros((1, 4)),) * 2, jnp.ones((1, 4))))) == {
        "replaced",
        "rtd_accuracy",
    }


def test_temperatures_fall_from_their_start_to_one():
    step = jnp.asarray([0, 100, 200, 500, 1000, 5000])
    exponential = temperatures.Exponential(steps=1000, start=2.0, decay=0.1)(step)
    np.testing.assert_allclose(exponential, [2.0, 1.3679, 1.1353, 1.0067, 1.00005, 1.00005], atol=1e-4)
    linear = temperatures.Polynomial(steps=1000, start=3.0, until=0.5)
    np.testing.assert_allclose(linear(step), [3.0, 2.6, 2.2, 1, 1, 1], atol=1e-5)
    square = dataclasses.replace(linear, power=2.0)
    np.testing.assert_allclose(square(step), [3.0, 1 + 2 * 0.64, 1 + 2 * 0.36, 1, 1, 1], atol=1e-5)
    assert linear(None) == 1.0 and temperatures.Constant(value=1.5)(None) == 1.5
    with pytest.raises(ValueError, match="Exponential: decay is 0; give a number above 0"):
        temperatures.Exponential(steps=10, decay=0)


def test_draws_of_an_evaluation_depend_on_the_batch_alone(batch):
    params = made(PAIR)
    one, again = (METRO(PAIR, params, batch, None)["rtd"] for _ in range(2))
    assert one == again
    drawn = [
        METRO._generated(PAIR, params, batch, denoised.keys(key, batch)[0])[1] for key in map(jax.random.key, (1, 2))
    ]
    assert (drawn[0] != drawn[1]).any()
    hot = dataclasses.replace(METRO, temperature=temperatures.Constant(value=100.0))
    assert float(hot(PAIR, params, batch, None)["stat/temperature"]) == pytest.approx(1000.0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_main_encoder_alone_has_the_same_sums_on_corrupted_text(batch, variant):
    loss, head = VARIANTS[variant]
    model = dataclasses.replace(PAIR, head=head, sharing=pair.Disentangled())
    alone = denoised.Denoised(clm=loss.clm, rtd=loss.rtd)
    assert alone.terms == {term: weight for term, weight in loss.terms.items() if term != "mlm"} != loss.terms
    params, key = made(model), jax.random.key(5)
    expected = jax.jit(lambda params: loss(model, params, batch, key))(params)
    read = loss.corrupt(model, params, batch, key)
    assert (read != batch["encoder_inputs"]).sum() >= 5
    main, corrupted = model.models["main"], {**batch, "encoder_inputs": read}
    found = jax.jit(lambda params: alone(main, params, corrupted, key))(model.side("main", params))
    assert set(expected) - set(found) == {"mlm", "stat/auxiliary_correct", "stat/auxiliary_entropy", "stat/temperature"}
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, err_msg=name)
    counts = loss.counts(batch)
    assert alone.counts(corrupted) == {term: count for term, count in counts.items() if term != "mlm"}

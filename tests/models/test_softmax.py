"""Chunked cross-entropy against the whole matrix: values, gradients, memory, devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import placing, readout, softmax
from recipes import counts

ROWS, LENGTH, WIDTH, VOCABULARY = 4, 23, 16, 97


@pytest.fixture(scope="module")
def case():
    """Readout parameters, states, targets and weights; a few tokens weigh nothing, one state decides its target."""
    draw = np.random.default_rng(0).normal
    hidden = draw(size=(ROWS, LENGTH, WIDTH)).astype(np.float32)
    kernel = draw(size=(VOCABULARY, WIDTH)).astype(np.float32)
    bias = draw(size=(VOCABULARY,)).astype(np.float32)
    targets = np.random.default_rng(1).integers(0, VOCABULARY, (ROWS, LENGTH)).astype(np.int32)
    weights = np.random.default_rng(2).choice([0.0, 0.5, 1.0], (ROWS, LENGTH)).astype(np.float32)
    hidden[0, 0] = 3 * kernel[targets[0, 0]]
    return {"kernel": kernel, "bias": bias, "hidden": hidden, "targets": targets, "weights": weights}


def _whole(kernel, bias, hidden, weights, targets, *, scale=1.0, z_loss=0.0, label_smoothing=0.0):
    logits = jnp.einsum("bld,vd->blv", hidden, kernel) * scale
    if bias is not None:
        logits = logits + bias[None, None]
    log_p = jax.nn.log_softmax(logits)
    q = (1 - label_smoothing) * jax.nn.one_hot(targets, VOCABULARY) + label_smoothing / VOCABULARY
    losses = -jnp.sum(q * log_p, axis=-1) + z_loss * jax.nn.logsumexp(logits, axis=-1) ** 2
    nll = -jnp.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]
    return jnp.sum(losses * weights), {"loss": nll, "correct": (jnp.argmax(logits, -1) == targets).astype(jnp.float32)}


def _chunked(kernel, bias, hidden, weights, targets, *, scale=1.0, **options):
    return softmax.cross_entropy(readout.Readout(kernel, bias, scale), hidden, targets, weights, **options)


def _values_and_gradients(function, case, *, bias, **options):
    arguments = (case["kernel"], case["bias"] if bias else None, case["hidden"], case["weights"])

    @jax.jit
    def run(arguments):
        def scaled(arguments):
            total, tokens = function(*arguments, case["targets"], **options)
            return total * 0.37, tokens

        return jax.value_and_grad(scaled, has_aux=True)(arguments)

    return run(arguments)


@pytest.mark.parametrize(
    "options",
    [
        {"bias": False},
        {"bias": True, "scale": 0.25},
        {"bias": True, "scale": 0.25, "z_loss": 1e-2, "label_smoothing": 0.1},
    ],
    ids=["plain", "bias-scale", "everything"],
)
@pytest.mark.parametrize("chunk", [1, 20, 10_000], ids=["a-token-a-row", "ragged", "single"])
def test_equals_the_whole_matrix(case, options, chunk):
    (total, tokens), gradients = _values_and_gradients(_chunked, case, chunk=chunk, **options)
    (want, want_tokens), want_gradients = _values_and_gradients(_whole, case, **options)
    np.testing.assert_allclose(total, want, rtol=1e-5)
    np.testing.assert_allclose(tokens["loss"], want_tokens["loss"], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(tokens["correct"], want_tokens["correct"])
    assert 0 < tokens["correct"].sum() < tokens["correct"].size
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), gradients, want_gradients)


def test_the_undifferentiated_pass_gives_the_same_values(case):
    options = {"z_loss": 1e-2, "label_smoothing": 0.1, "chunk": 20}
    arguments = (case["kernel"], case["bias"], case["hidden"], case["weights"], case["targets"])
    total, tokens = jax.jit(functools.partial(_chunked, **options))(*arguments)
    (want, want_tokens), _ = _values_and_gradients(_chunked, case, bias=True, **options)
    np.testing.assert_allclose(total * 0.37, want, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), tokens, want_tokens)


def test_single_axis_of_tokens_and_smoothed_total(case):
    flat = {name: x.reshape(-1, *x.shape[2:]) if name not in ("kernel", "bias") else x for name, x in case.items()}
    order = ("kernel", "bias", "hidden", "weights", "targets")
    total, tokens = _chunked(*(flat[name] for name in order), chunk=13)
    want, want_tokens = _chunked(*(case[name] for name in order), chunk=40)
    np.testing.assert_allclose(total, want, rtol=1e-5)
    np.testing.assert_allclose(tokens["loss"].reshape(ROWS, LENGTH), want_tokens["loss"], rtol=1e-5, atol=1e-5)
    regular, _ = _chunked(*(case[name] for name in order), chunk=40, z_loss=0.1, label_smoothing=0.2)
    assert regular > total, "z_loss and label smoothing add to the sum, not to the reported token losses"


def test_weight_zero_gives_nothing(case):
    dead = {**case, "weights": np.where(np.arange(LENGTH)[None] < 5, case["weights"], 0).astype(np.float32)}
    wild = {**dead, "hidden": np.where(np.arange(LENGTH)[None, :, None] < 5, case["hidden"], 7).astype(np.float32)}
    assert (dead["hidden"] != wild["hidden"]).any()
    (total, _), gradients = _values_and_gradients(_chunked, dead, bias=True, chunk=20)
    (other, _), others = _values_and_gradients(_chunked, wild, bias=True, chunk=20)
    np.testing.assert_allclose(total, other, rtol=1e-6)
    for a, b in zip(gradients[:3], others[:3]):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(gradients[2][:, 5:], 0)


def test_bfloat16_states_accumulate_in_float32(case):
    """Halving the precision of the states may cost a bfloat16 rounding of each, and no more for many tokens."""
    low = {**case, "hidden": case["hidden"].astype(jnp.bfloat16)}
    (total, tokens), gradients = _values_and_gradients(_chunked, low, bias=True, chunk=20)
    (want, _), want_gradients = _values_and_gradients(_whole, case, bias=True)
    assert total.dtype == tokens["loss"].dtype == gradients[0].dtype == gradients[1].dtype == jnp.float32
    assert gradients[2].dtype == jnp.bfloat16
    np.testing.assert_allclose(total, want, rtol=1e-2)
    scale = np.abs(want_gradients[0]).max()
    np.testing.assert_allclose(gradients[0], want_gradients[0], atol=0.02 * scale)


def _sizes(jaxpr):
    for equation in jaxpr.eqns:
        yield from (variable.aval.size for variable in equation.outvars)
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _sizes(inner)


def test_the_whole_matrix_never_exists(case):
    def largest(function, **options):
        def loss(kernel, bias, hidden, weights):
            return function(kernel, bias, hidden, weights, case["targets"], **options)[0]

        arguments = (case["kernel"], case["bias"], case["hidden"], case["weights"])
        gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
        largest = max(_sizes(gradient.trace(*arguments).jaxpr.jaxpr))
        return largest, gradient.lower(*arguments).compile().memory_analysis().temp_size_in_bytes

    whole = ROWS * LENGTH * VOCABULARY
    size, temporaries = largest(_chunked, chunk=16)
    size_whole, temporaries_whole = largest(_whole)
    assert size_whole == whole
    assert size < whole / 3
    assert temporaries < temporaries_whole / 2


def test_rows_on_eight_devices_stay_there(case):
    double = {name: np.concatenate([x, x]) if name not in ("kernel", "bias") else x for name, x in case.items()}
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.NamedSharding(mesh, jax.P("data"))
    whole = jax.NamedSharding(mesh, jax.P())

    def loss(kernel, bias, hidden, weights, targets):
        return _chunked(kernel, bias, hidden, weights, targets, chunk=32)[0]

    gradient = jax.value_and_grad(loss, argnums=(0, 1, 2))
    arguments = [double[name] for name in ("kernel", "bias", "hidden", "weights", "targets")]
    shardings = (whole, whole, rows, rows, rows)
    compiled = jax.jit(gradient, in_shardings=shardings).lower(*arguments).compile()
    assert "all-gather" not in compiled.as_text(), "a chunk must not fetch rows of other devices"
    got = compiled(*jax.device_put(arguments, list(shardings)))
    assert len(got[1][2].sharding.device_set) == 8
    want = jax.jit(gradient)(*arguments)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), got, want)


def test_devices_that_share_a_row_take_a_stretch_of_it_each(case):
    rows, length = 2 * ROWS, LENGTH + 1
    wide = {name: np.concatenate([x, x[:, :1]], axis=1) for name, x in case.items() if name not in ("kernel", "bias")}
    wide = {name: np.concatenate([x, x]) for name, x in wide.items()}
    mesh = jax.make_mesh((2, 4), ("data", "sequence"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    split, whole = jax.NamedSharding(mesh, jax.P("data", "sequence")), jax.NamedSharding(mesh, jax.P())
    arguments = [case["kernel"], case["bias"], *(wide[name] for name in ("hidden", "weights", "targets"))]
    shardings = (whole, whole, split, split, split)

    def loss(*arguments):
        return _chunked(*arguments, chunk=8)

    gradient = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)
    with placing.rules(mesh, (("batch", "data"), ("length", "sequence"))):
        compiled = jax.jit(gradient, in_shardings=shardings).lower(*arguments).compile()
        got = compiled(*jax.device_put(arguments, list(shardings)))
    text = compiled.as_text()
    assert not any(kind in text for kind in ("all-gather(", "all-to-all(", "collective-permute(")), "nothing moves"
    assert counts.count(text).flops == 3 * 2 * rows * length * WIDTH * VOCABULARY / 8
    want = jax.jit(gradient)(*arguments)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), got, want)


def test_bad_arguments_are_refused(case):
    arguments = (readout.Readout(case["kernel"]), case["hidden"], case["targets"], case["weights"])
    with pytest.raises(ValueError, match="do not match"):
        softmax.cross_entropy(*arguments[:3], case["weights"][:, :-1])
    with pytest.raises(ValueError, match="chunk is 0"):
        softmax.cross_entropy(*arguments, chunk=0)
    with pytest.raises(ValueError, match="label_smoothing is 1"):
        softmax.cross_entropy(*arguments, label_smoothing=1.0)


def test_a_frozen_kernel_costs_no_product(case):
    """Each of the three products (logits, states' gradient, kernel's gradient) is a third of the work."""

    def work(argnums):
        def loss(kernel, hidden):
            return _chunked(kernel, None, hidden, case["weights"], case["targets"], chunk=16)[0]

        lowered = jax.jit(jax.grad(loss, argnums=argnums)).lower(case["kernel"], case["hidden"])
        return lowered.compile().as_text().count(" dot(")

    assert work((0, 1)) == 3
    assert work((1,)) == 2

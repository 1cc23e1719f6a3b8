import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import encoder, heads


@pytest.fixture(scope="module")
def run(stacks, make_batch, make_params):
    """(head, batch changes) -> model, parameters, batch, output; the encoder's parameters are the same for all heads."""
    bare = encoder.Encoder(stack=stacks["gpt2"], vocabulary=61)

    def go(head, batch=None):
        model = dataclasses.replace(bare, head=head)
        params = make_params(model) | make_params(bare)
        full = make_batch("encoder") | (batch or {})
        return model, params, full, jax.jit(model.apply)(params, full)

    return go


@pytest.fixture(scope="module")
def states(run):
    """What all heads stand on."""
    return run(None)[-1].hidden


def _dense(params, head, x):
    return x @ params[f"{head}/dense/kernel"] + params[f"{head}/dense/bias"][None, None]


def _out(params, head, x):
    x = x @ params[f"{head}/out/kernel"]
    return x + jnp.broadcast_to(params[f"{head}/out/bias"], x.shape)


def _gelu(x):
    return jax.nn.gelu(x, approximate=False)


def test_masked_lm_takes_the_states_at_its_targets_alone(run, states):
    _, params, batch, bare = run(heads.MaskedLM(dense=False))
    where = batch["target_positions"]
    assert bare.hidden.shape == (2, 3, 24) and bare.logits is None
    np.testing.assert_allclose(bare.hidden, np.take_along_axis(np.array(states), where[..., None], axis=1), atol=1e-5)
    np.testing.assert_array_equal(bare.readout.kernel, params["token_embedder/embedding"])
    assert set(params) & {"mlm_head/dense/kernel", "logits/kernel"} == set()


def test_masked_lm_with_dense_layer_and_bias(run, states):
    _, params, batch, full = run(heads.MaskedLM())
    picked = jnp.take_along_axis(states, batch["target_positions"][..., None], axis=1)
    hidden = _gelu(_dense(params, "mlm_head", picked))
    hidden = (hidden - hidden.mean(-1, keepdims=True)) / jnp.sqrt(hidden.var(-1, keepdims=True) + 1e-5)
    hidden = hidden * params["mlm_head/norm/scale"][None, None] + params["mlm_head/norm/bias"][None, None]
    np.testing.assert_allclose(full.hidden, hidden, atol=1e-4)
    expected = full.hidden @ params["token_embedder/embedding"].T + params["mlm_head/bias"][None, None]
    np.testing.assert_allclose(full.readout.logits(full.hidden), expected, atol=1e-4)


def test_free_masked_lm_has_a_kernel_of_its_own(run):
    _, params, _, output = run(heads.MaskedLM(tied=False, bias=False, dense=False))
    np.testing.assert_array_equal(output.readout.kernel, params["logits/kernel"])
    assert output.readout.bias is None and "mlm_head/bias" not in params


def test_token_classification_labels_every_place(run, states):
    _, params, _, output = run(heads.TokenClassification(classes=5))
    assert output.logits.shape == (2, 9, 5) and output.readout is None
    np.testing.assert_allclose(output.logits, _out(params, "token_head", states), atol=1e-4)


@pytest.mark.parametrize("dense", [False, True])
def test_replaced_token_detection_gives_one_logit_a_place(run, states, dense):
    _, params, _, output = run(heads.ReplacedToken(dense=dense))
    assert output.logits.shape == (2, 9)
    x = _gelu(_dense(params, "rtd_head", states)) if dense else states
    np.testing.assert_allclose(output.logits, _out(params, "rtd_head", x)[..., 0], atol=1e-4)


@pytest.mark.parametrize("pooler", ["none", "tanh", "gelu"])
def test_sequence_classification_of_the_first_state(run, states, pooler):
    _, params, _, output = run(heads.SequenceClassification(classes=3, pooler=pooler))
    x = states[:, :1]
    if pooler != "none":
        x = {"tanh": jnp.tanh, "gelu": _gelu}[pooler](_dense(params, "sequence_head", x))
    np.testing.assert_allclose(output.logits, _out(params, "sequence_head", x)[:, 0], atol=1e-4)


def test_mean_pooling_leaves_padding_out(run):
    segments = np.ones((2, 9), np.int32)
    segments[0, 6:] = 0
    head = heads.SequenceClassification(classes=3, pool="mean", pooler="none")
    _, params, _, output = run(head, {"encoder_segments": segments})
    hidden = run(None, {"encoder_segments": segments})[-1].hidden
    pooled = jnp.stack([hidden[0, :6].mean(0), hidden[1].mean(0)])
    np.testing.assert_allclose(output.logits, _out(params, "sequence_head", pooled), atol=1e-4)


def test_classification_drops_only_with_a_key(run):
    model, params, batch, output = run(heads.TokenClassification(classes=5, dropout=0.5))
    dropped = jax.jit(model.apply)(params, batch, key=jax.random.key(1))
    assert np.abs(output.logits - dropped.logits).max() > 1e-2


@pytest.mark.parametrize("head", [heads.TokenClassification(classes=2), heads.SequenceClassification(classes=2)])
def test_logits_are_float32_whatever_the_compute_dtype(run, stacks, make_batch, head):
    model = encoder.Encoder(stack=stacks["gpt2"], vocabulary=61, head=head, dtype="bfloat16")
    output = jax.eval_shape(lambda: model.apply(model.init(jax.random.key(0)), make_batch("encoder")))
    assert (output.logits.dtype, output.hidden.dtype) == (jnp.float32, jnp.bfloat16)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: heads.MaskedLM(activation="x"), "MaskedLM: activation 'x' is unknown"),
        (lambda: heads.ReplacedToken(activation="x"), "ReplacedToken: activation 'x' is unknown"),
        (lambda: heads.TokenClassification(classes=1), "TokenClassification: classes is 1; give at least 2"),
        (
            lambda: heads.SequenceClassification(classes=2, pool="last"),
            "pool 'last' is unknown; choose one of first, mean",
        ),
        (lambda: heads.SequenceClassification(classes=2, pooler="x"), "pooler 'x' is unknown"),
    ],
)
def test_bad_heads_are_refused(make, message):
    with pytest.raises(ValueError, match="^[A-Z]") as caught:
        make()
    assert message in str(caught.value)

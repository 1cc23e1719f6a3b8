import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import encoder, heads


@pytest.fixture(scope="module")
def run(stacks, make_batch):
    """(head, batch changes, parameter changes) -> model, parameters, batch, output."""

    def go(head, batch=None, params=None):
        model = encoder.Encoder(stack=stacks["gpt2"], vocabulary=61, head=head)
        made = model.init(jax.random.key(0)) | (params or {})
        full = make_batch("encoder") | (batch or {})
        return model, made, full, model.apply(made, full)

    return go


def test_masked_lm_takes_the_states_at_its_targets_alone(run):
    _, _, _, states = run(None)
    _, params, batch, bare = run(heads.MaskedLM(dense=False))
    where = batch["target_positions"]
    assert bare.hidden.shape == (2, 3, 24) and bare.logits is None
    np.testing.assert_array_equal(bare.hidden, np.take_along_axis(np.array(states.hidden), where[..., None], axis=1))
    np.testing.assert_array_equal(bare.readout.kernel, params["token_embedder/embedding"])
    assert set(params) & {"mlm_head/dense/kernel", "logits/kernel"} == set()


def test_masked_lm_with_dense_layer_and_bias(run):
    bias = jnp.arange(61.0)
    _, params, _, full = run(heads.MaskedLM(), params={"mlm_head/bias": bias})
    _, _, _, bare = run(heads.MaskedLM(dense=False))
    hidden = jax.nn.gelu(bare.hidden @ params["mlm_head/dense/kernel"], approximate=False)
    hidden = (hidden - hidden.mean(-1, keepdims=True)) / jnp.sqrt(hidden.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(full.hidden, hidden, atol=1e-4)
    expected = full.hidden @ params["token_embedder/embedding"].T + bias[None, None]
    np.testing.assert_allclose(full.readout.logits(full.hidden), expected, atol=1e-4)


def test_free_masked_lm_has_a_kernel_of_its_own(run):
    _, params, _, output = run(heads.MaskedLM(tied=False, bias=False))
    np.testing.assert_array_equal(output.readout.kernel, params["logits/kernel"])
    assert output.readout.bias is None and "mlm_head/bias" not in params


def test_token_classification_labels_every_place(run):
    _, params, _, states = run(None)
    _, params, _, output = run(heads.TokenClassification(classes=5))
    assert output.logits.shape == (2, 9, 5) and output.readout is None
    np.testing.assert_allclose(output.logits, states.hidden @ params["token_head/out/kernel"], atol=1e-5)


def test_replaced_token_detection_gives_one_logit_a_place(run):
    _, _, _, states = run(None)
    _, params, _, output = run(heads.ReplacedToken(dense=False))
    assert output.logits.shape == (2, 9)
    np.testing.assert_allclose(output.logits, (states.hidden @ params["rtd_head/out/kernel"])[..., 0], atol=1e-5)
    _, params, _, output = run(heads.ReplacedToken())
    hidden = jax.nn.gelu(states.hidden @ params["rtd_head/dense/kernel"], approximate=False)
    np.testing.assert_allclose(output.logits, (hidden @ params["rtd_head/out/kernel"])[..., 0], atol=1e-5)


@pytest.mark.parametrize("pooler", ["none", "tanh", "gelu"])
def test_sequence_classification_of_the_first_state(run, pooler):
    _, _, _, states = run(None)
    _, params, _, output = run(heads.SequenceClassification(classes=3, pooler=pooler))
    x = states.hidden[:, 0]
    if pooler != "none":
        act = {"tanh": jnp.tanh, "gelu": lambda x: jax.nn.gelu(x, approximate=False)}[pooler]
        x = act(x @ params["sequence_head/dense/kernel"])
    np.testing.assert_allclose(output.logits, x @ params["sequence_head/out/kernel"], atol=1e-5)


def test_mean_pooling_leaves_padding_out(run):
    segments = np.ones((2, 9), np.int32)
    segments[0, 6:] = 0
    head = heads.SequenceClassification(classes=3, pool="mean", pooler="none")
    _, params, _, output = run(head, {"encoder_segments": segments})
    _, _, _, states = run(None, {"encoder_segments": segments})
    pooled = jnp.stack([states.hidden[0, :6].mean(0), states.hidden[1].mean(0)])
    np.testing.assert_allclose(output.logits, pooled @ params["sequence_head/out/kernel"], atol=1e-5)


def test_classification_drops_only_with_a_key(run):
    model, params, batch, output = run(heads.TokenClassification(classes=5, dropout=0.5))
    assert np.abs(output.logits - model.apply(params, batch, key=jax.random.key(1)).logits).max() > 1e-4


def test_logits_are_float32_whatever_the_compute_dtype(run):
    for head in (heads.TokenClassification(classes=2), heads.SequenceClassification(classes=2), heads.ReplacedToken()):
        model, params, batch, _ = run(head)
        assert dataclasses.replace(model, dtype="bfloat16").apply(params, batch).logits.dtype == jnp.float32


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

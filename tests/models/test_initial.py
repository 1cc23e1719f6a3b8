import dataclasses

import jax
import numpy as np
import pytest

from models import decoder, initial, stack

WIDE = stack.Stack(
    layers=8, width=64, heads=4, head_dim=8, mlp=128, positions="learned_relative", types=2, scale_scores=False
)


def _deviations(init, **changes):
    config = dataclasses.replace(WIDE, init=init, **changes)
    params = decoder.Decoder(stack=config, vocabulary=500, tied=False, output_bias=True).init(jax.random.key(0))
    return {path.removeprefix("decoder/layers/"): float(np.std(value)) for path, value in params.items()}, params


@pytest.mark.parametrize(
    "init, expected",
    [
        (
            initial.Initial(),
            {
                "token_embedder/embedding": 0.02,
                "decoder/position_embedder/embedding": 0.02,
                "self_attention/query/kernel": 0.02,
                "self_attention/out/kernel": 0.02,
                "mlp/wi/kernel": 0.02,
                "mlp/wo/kernel": 0.02,
                "logits/kernel": 0.02,
            },
        ),
        (
            initial.Initial(scheme="fan_in", std=1.0, embedding=1.0),
            {
                "token_embedder/embedding": 1.0,
                "self_attention/query/kernel": (64 * 8) ** -0.5,
                "self_attention/key/kernel": 64**-0.5,
                "self_attention/out/kernel": 32**-0.5,
                "mlp/wi/kernel": 64**-0.5,
                "mlp/wo/kernel": 128**-0.5,
                "decoder/relative_bias/embedding": 64**-0.5,
                "logits/kernel": 64**-0.5,
            },
        ),
        (
            initial.Initial(std=0.1, depth_scaled=True, residual=2.0),
            {
                "mlp/wi/kernel": 0.1,
                "mlp/wo/kernel": 0.1 * 2 / 16**0.5,
                "self_attention/out/kernel": 0.1 * 2 / 16**0.5,
                "self_attention/value/kernel": 0.1,
            },
        ),
    ],
    ids=["normal", "fan_in", "depth_scaled"],
)
def test_deviations(init, expected):
    found, params = _deviations(init)
    for path, deviation in expected.items():
        assert found[path] == pytest.approx(deviation, rel=0.12), path
    for path, value in params.items():
        if path.endswith("/bias"):
            assert not np.any(value), path
        if path.endswith("norm/scale"):
            assert np.all(value == 1), path


def test_scaled_scores_need_no_small_queries():
    init = initial.Initial(scheme="fan_in", std=1.0, embedding=1.0)
    found, _ = _deviations(init, scale_scores=True)
    assert found["self_attention/query/kernel"] == pytest.approx(64**-0.5, rel=0.05)


def test_a_fresh_model_predicts_nearly_uniformly():
    model = decoder.Decoder(stack=WIDE, vocabulary=500)
    ids = np.arange(12, dtype=np.int32)[None]
    batch = {"decoder_inputs": ids, "decoder_segments": ids * 0 + 1, "decoder_positions": ids}
    output = jax.jit(model.apply)(model.init(jax.random.key(0)), batch)
    loss = -jax.nn.log_softmax(output.readout.logits(output.hidden))
    assert float(loss.mean()) == pytest.approx(np.log(500), abs=0.1)

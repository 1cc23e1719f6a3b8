"""Tiny models of each family, and batches for them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import decoder, encdec, encoder, heads, initial, stack

VOCABULARY = 61

BERT = stack.Stack(
    layers=3,
    width=24,
    heads=4,
    mlp=40,
    norm_position="post",
    norm_eps=1e-12,
    embedding_norm=True,
    types=2,
    max_positions=32,
)
T5 = stack.Stack(
    layers=3,
    width=24,
    heads=4,
    head_dim=10,
    mlp=40,
    activation="gelu_tanh",
    gated=True,
    norm="rmsnorm",
    positions="relative",
    buckets=8,
    max_distance=12,
    attention_bias=False,
    mlp_bias=False,
    scale_scores=False,
    init=initial.Initial(scheme="fan_in", std=1.0, embedding=1.0),
)
GPT2 = stack.Stack(layers=3, width=24, heads=3, mlp=40, activation="gelu_tanh", max_positions=32, norm_eps=1e-5)
LLAMA = stack.Stack(
    layers=3,
    width=24,
    heads=4,
    kv_heads=2,
    mlp=40,
    activation="silu",
    gated=True,
    norm="rmsnorm",
    positions="rotary",
    attention_bias=False,
    mlp_bias=False,
)
METRO = dataclasses.replace(BERT, positions="learned_relative", buckets=8, max_distance=12, activation="relu2")


def _models():
    free = {"vocabulary": VOCABULARY}
    return {
        "bert": encoder.Encoder(stack=BERT, head=heads.MaskedLM(), **free),
        "metro": encoder.Encoder(stack=METRO, head=heads.ReplacedToken(), **free),
        "labels": encoder.Encoder(stack=LLAMA, head=heads.TokenClassification(classes=5), **free),
        "sentences": encoder.Encoder(stack=T5, head=heads.SequenceClassification(classes=3), **free),
        "free_mlm": encoder.Encoder(stack=GPT2, head=heads.MaskedLM(dense=False, tied=False), **free),
        "states": encoder.Encoder(stack=T5, **free),
        "gpt2": decoder.Decoder(stack=GPT2, **free),
        "llama": decoder.Decoder(stack=LLAMA, tied=False, **free),
        "t5": encdec.EncoderDecoder(
            encoder=dataclasses.replace(T5, layers=2), decoder=T5, tied=False, share_embeddings=True, **free
        ),
        "bart": encdec.EncoderDecoder(
            encoder=dataclasses.replace(BERT, types=0),
            decoder=dataclasses.replace(BERT, types=0),
            output_bias=True,
            **free,
        ),
        "fused": encdec.EncoderDecoder(
            encoder=GPT2, decoder=LLAMA, fusion=True, share_embeddings=False, logit_scale="width", **free
        ),
    }


MODELS = _models()


def _batch(kind, rows=2, length=9, targets=7, seed=0):
    """A batch for a kind of model: rows of one full segment each, positions from 0."""
    rng = np.random.default_rng(seed)

    def side(name, length):
        shape = (rows, length)
        return {
            f"{name}_inputs": rng.integers(1, VOCABULARY, shape, dtype=np.int32),
            f"{name}_segments": np.ones(shape, np.int32),
            f"{name}_positions": np.broadcast_to(np.arange(length, dtype=np.int32), shape).copy(),
        }

    batch = {}
    if kind != "decoder":
        batch |= side("encoder", length)
    if kind == "encoder":
        batch["target_positions"] = np.sort(rng.integers(0, length, (rows, 3), dtype=np.int32), axis=1)
    if kind != "encoder":
        batch |= side("decoder", targets)
    return batch


@pytest.fixture(scope="module", autouse=True)
def quick_compiler(request):
    """Compiles in half the time, for models too small to run long; a module with OPTIMIZED = True gets it whole."""
    jax.config.update("jax_disable_most_optimizations", not getattr(request.module, "OPTIMIZED", False))
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def tiny():
    """Tiny models by name."""
    return MODELS


@pytest.fixture(scope="session")
def stacks():
    """Tiny stacks by name."""
    return {"bert": BERT, "t5": T5, "gpt2": GPT2, "llama": LLAMA, "metro": METRO}


@pytest.fixture(scope="session")
def make_params():
    """(model) -> parameters from numpy, none of them near zero, so that no part can go missing unseen."""

    def made(model):
        rng = np.random.default_rng(0)
        noise = {path: rng.normal(size=leaf.shape) for path, leaf in model.abstract().items()}
        drawn = {path: 1 + 0.2 * x if path.endswith("/scale") else 0.2 * x for path, x in noise.items()}
        return {path: jnp.asarray(x, jnp.float32) for path, x in drawn.items()}

    return made


@pytest.fixture(scope="session")
def make_batch():
    """(kind, rows, length, targets, seed) -> a batch of numpy arrays."""
    return _batch


@pytest.fixture(scope="session")
def out():
    """The numbers that a model gives: (output) -> logits at the targets, whatever the head."""

    def numbers(output):
        if output.logits is not None:
            return output.logits
        return output.hidden if output.readout is None else output.readout.logits(output.hidden)

    return numbers

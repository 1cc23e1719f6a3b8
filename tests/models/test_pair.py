import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import encdec, encoder, heads, pair, stack

SHARINGS = [pair.Shared(), pair.Apart(), pair.Disentangled()]
EVERYTHING = pair.Shared(paths=(r"token_embedder/.*", r"encoder/(position_embedder|embedding_norm)/.*"))


@pytest.fixture(scope="module")
def make(stacks):
    """(fields) -> a pair on BERT's tiny stack, the auxiliary one layer deep."""

    def made(**fields):
        main = dataclasses.replace(stacks["bert"], types=0)
        auxiliary = dataclasses.replace(main, layers=1)
        return pair.Pair(**{"main": main, "auxiliary": auxiliary, "vocabulary": 61} | fields)

    return made


@pytest.mark.parametrize("sharing", [*SHARINGS, EVERYTHING])
def test_each_side_is_an_encoder_of_its_own(make, make_batch, make_params, out, sharing):
    model, batch = make(sharing=sharing), make_batch("encoder")
    params = make_params(model)
    for name, run in (("main", model.apply), ("auxiliary", model.generate)):
        alone = model.models[name]
        own = model.side(name, params)
        assert isinstance(alone, encoder.Encoder) and alone != model.models["main" if name != "main" else "auxiliary"]
        assert {path: x.shape for path, x in own.items()} == {p: leaf.shape for p, leaf in alone.abstract().items()}
        expected, found = alone.apply(own, batch), run(params, batch)
        np.testing.assert_allclose(found.hidden, expected.hidden, atol=1e-6)
        logits = found.readout.logits(found.hidden)
        np.testing.assert_allclose(logits, expected.readout.logits(expected.hidden), atol=1e-5)


@pytest.mark.parametrize("decoded", [False, True])
@pytest.mark.parametrize("sharing", SHARINGS)
def test_the_states_are_the_main_model_s(make, make_batch, make_params, sharing, decoded):
    model = make(sharing=sharing)
    if decoded:
        model = dataclasses.replace(model, decoder=model.main, head=heads.ReplacedToken())
    params, batch = make_params(model), make_batch(model.kind)
    found = model.states(params, batch)
    expected = model.models["main"].states(model.side("main", params), batch)
    assert set(found) == ({"encoder", "decoder"} if decoded else {"encoder"})
    for side, states in expected.items():
        np.testing.assert_array_equal(found[side], states)


def test_what_is_shared_is_there_once(make):
    counts = {type(sharing): len(make(sharing=sharing).abstract()) for sharing in SHARINGS}
    assert counts[pair.Shared] == counts[pair.Apart] - 1 == counts[pair.Disentangled] - 1
    leaves = make(sharing=EVERYTHING).abstract()
    assert "main/encoder/position_embedder/embedding" in leaves
    assert not any("position_embedder" in path or "/embedding_norm" in path for path in leaves if path[0] == "a")


@pytest.mark.parametrize("sharing", SHARINGS)
def test_initial_values_are_those_that_abstract_names(make, sharing):
    model = make(sharing=sharing)
    params = jax.jit(model.init)(jax.random.key(0))
    assert {path: x.shape for path, x in params.items()} == {p: leaf.shape for p, leaf in model.abstract().items()}
    assert list(params) == sorted(params)
    differs = isinstance(sharing, pair.Disentangled)
    assert differs == (not np.any(params.get("main/token_embedder/difference", 1)))
    assert differs == ("main/token_embedder/embedding" not in params)
    tables = [model.side(name, params)["token_embedder/embedding"] for name in pair.SIDES]
    assert np.array_equal(*tables) == (not isinstance(sharing, pair.Apart))
    kernel = "encoder/layers/mlp/wi/kernel"
    assert not np.array_equal(params[f"main/{kernel}"][0], params[f"auxiliary/{kernel}"][0])


def test_with_a_decoder_the_main_model_is_an_encoder_decoder_that_detects(make, make_batch, make_params, stacks, out):
    plain = make(head=heads.ReplacedToken())
    model = dataclasses.replace(plain, decoder=dataclasses.replace(stacks["bert"], types=0, layers=2))
    assert (plain.kind, model.kind) == ("encoder", "encdec") and set(model.stacks) - set(plain.stacks) == {"decoder"}
    params = make_params(model)
    assert {path for path in params if path not in plain.abstract()} == {p for p in params if p[:13] == "main/decoder/"}
    batch = make_batch("encdec", length=7) | {"target_positions": np.array([[1, 4, 5], [0, 2, 6]], np.int32)}
    found, alone = model.apply(params, batch), model.models["main"]
    assert isinstance(alone, encdec.EncoderDecoder)
    bare = dataclasses.replace(alone, head=None)
    own = {path: x for path, x in model.side("main", params).items() if not path.startswith("rtd_head/")}
    everywhere = bare.apply(own, {name: x for name, x in batch.items() if name != "target_positions"})
    at = batch["target_positions"][..., None]
    np.testing.assert_allclose(found.hidden, np.take_along_axis(everywhere.hidden, at, axis=1), atol=1e-5)
    # The encoder and its head are those of the pair without a decoder.
    detected = plain.apply({path: params[path] for path in plain.abstract()}, batch)
    np.testing.assert_allclose(found.logits, detected.logits, atol=1e-5)
    assert found.logits.shape == (2, 7) and np.ptp(found.logits) > 0.1


def test_the_compiler_counts_a_pair_with_a_decoder_the_same(make_batch):
    """Both forward passes; XLA counts causal attention whole, and elementwise work too."""
    body = stack.Stack(
        layers=2, width=128, heads=4, mlp=256, activation="relu", norm="rmsnorm", positions="none", unroll=2
    )
    model = pair.Pair(
        main=body,
        decoder=body,
        auxiliary=dataclasses.replace(body, layers=1),
        generator=heads.MaskedLM(dense=False),
        head=heads.ReplacedToken(),
        vocabulary=61,
    )
    batch = make_batch("encdec", rows=2, length=32, targets=32) | {"target_positions": np.zeros((2, 5), np.int32)}
    params = {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in model.abstract().items()}

    def forward(params, batch):
        outputs = model.generate(params, batch), model.apply(params, batch)
        return [output.readout.logits(output.hidden) for output in outputs], outputs[1].logits

    counted = jax.jit(forward).lower(params, batch).compile().cost_analysis()["flops"]
    parts = model.costs(rows=2, inputs=32, targets=32, predicted=5)
    for path in params:
        assert any(re.fullmatch(part.prefix, path) for part in parts), path
    causal = 2 * 4 * 2 * 32 * 32 / 2 * 128
    assert counted == pytest.approx(sum(part.forward_flops for part in parts) + causal, rel=0.04)
    assert sum(part.forward_flops for part in parts if "decoder" in part.name) > 0.3 * counted


def test_two_heads_give_what_each_gives_alone(make, make_batch, make_params):
    model = make().models["main"]
    params, batch = make_params(model), make_batch("encoder")
    both = model.apply(params, batch)
    for head, path in ((heads.MaskedLM(dense=False), "rtd_head"), (heads.ReplacedToken(dense=False), "mlm_head")):
        one = dataclasses.replace(model, head=head)
        alone = one.apply({name: x for name, x in params.items() if not name.startswith(path)}, batch)
        if alone.logits is not None:
            np.testing.assert_array_equal(both.logits, alone.logits)
        else:
            np.testing.assert_array_equal(both.hidden, alone.hidden)
            np.testing.assert_array_equal(both.readout.bias, alone.readout.bias)


def test_the_auxiliary_may_compute_in_bfloat16(make, make_batch, make_params):
    model, batch = make(auxiliary_dtype="bfloat16"), make_batch("encoder")
    params = make_params(model)
    assert model.generate(params, batch).hidden.dtype == jnp.bfloat16
    assert model.apply(params, batch).hidden.dtype == jnp.float32
    assert {leaf.dtype for leaf in model.abstract().values()} == {np.dtype("float32")}


def test_bad_pairs_are_refused(make, stacks):
    wet = dataclasses.replace(stacks["bert"], dropout=0.1)
    with pytest.raises(ValueError, match=r"auxiliary has dropout 0\.1.*set 0"):
        make(auxiliary=wet)
    narrow = dataclasses.replace(stacks["bert"], width=16, embedding_width=12)
    with pytest.raises(ValueError, match=r"widths \{'main': 24, 'auxiliary': 12\}"):
        make(auxiliary=narrow, sharing=pair.Disentangled())
    with pytest.raises(ValueError, match=r"token_embedder/embedding is shared and has shape \(61, 12\)"):
        make(auxiliary=narrow).abstract()
    with pytest.raises(
        ValueError, match="decoder restores tokens and head RestoreAndDetect does too; give ReplacedToken"
    ):
        make(decoder=dataclasses.replace(stacks["bert"], types=0))
    with pytest.raises(ValueError, match="'token_embeder/.*' matches no parameter"):
        make(sharing=pair.Shared(paths=("token_embeder/.*",))).abstract()

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import encoder, heads, pair

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
        alone = model.encoders[name]
        own = model.side(name, params)
        assert isinstance(alone, encoder.Encoder) and alone != model.encoders["main" if name != "main" else "auxiliary"]
        assert {path: x.shape for path, x in own.items()} == {p: leaf.shape for p, leaf in alone.abstract().items()}
        expected, found = alone.apply(own, batch), run(params, batch)
        np.testing.assert_allclose(found.hidden, expected.hidden, atol=1e-6)
        logits = found.readout.logits(found.hidden)
        np.testing.assert_allclose(logits, expected.readout.logits(expected.hidden), atol=1e-5)


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


def test_two_heads_give_what_each_gives_alone(make, make_batch, make_params):
    model = make().encoders["main"]
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
    with pytest.raises(ValueError, match="'token_embeder/.*' matches no parameter"):
        make(sharing=pair.Shared(paths=("token_embeder/.*",))).abstract()

import jax
import numpy as np
import pytest

from models import axes

NAMES = ["bert", "metro", "labels", "sentences", "free_mlm", "states", "gpt2", "llama", "t5", "bart", "fused"]


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_an_axis_name_for_each_dimension(tiny, name):
    for path, leaf in tiny[name].abstract().items():
        assert len(leaf.axes) == len(leaf.shape), path
        assert set(leaf.axes) <= set(axes.NAMES), path
        assert len(set(leaf.axes)) == len(leaf.axes), path
        assert leaf.dtype == np.float32, path
        assert ("/layers/" in path) == (leaf.axes[0] == "layers"), path


@pytest.mark.parametrize("name", ["bert", "metro", "sentences", "fused"])
def test_abstract_tells_what_init_makes(tiny, name):
    params = tiny[name].init(jax.random.key(0))
    leaves = tiny[name].abstract()
    assert list(params) == list(leaves) == sorted(leaves)
    assert {k: (v.shape, v.dtype) for k, v in params.items()} == {k: (v.shape, v.dtype) for k, v in leaves.items()}
    assert all(np.isfinite(v).all() for v in params.values())


def test_paths_are_those_of_the_checkpoint_format(tiny):
    leaves = tiny["fused"].abstract()
    shapes = {path: leaf.shape for path, leaf in leaves.items()}
    expected = {
        "token_embedder/embedding": (61, 24),
        "decoder_token_embedder/embedding": (61, 24),
        "encoder/position_embedder/embedding": (32, 24),
        "encoder/layers/self_attention/query/kernel": (3, 24, 3, 8),
        "encoder/layers/self_attention/out/kernel": (3, 3, 8, 24),
        "encoder/layers/self_attention/out/bias": (3, 24),
        "encoder/layers/self_attention_norm/bias": (3, 24),
        "encoder/layers/mlp/wi/kernel": (3, 24, 40),
        "encoder/final_norm/scale": (24,),
        "decoder/layers/self_attention/key/kernel": (3, 24, 2, 6),
        "decoder/layers/cross_attention/value/kernel": (3, 24, 2, 6),
        "decoder/layers/cross_attention_norm/scale": (3, 24),
        "decoder/layers/mlp/wi_gate/kernel": (3, 24, 40),
        "decoder/layers/mlp_norm/scale": (3, 24),
        "decoder/fusion/weights": (4,),
    }
    assert expected.items() <= shapes.items()
    assert leaves["decoder/layers/self_attention/key/kernel"].axes == ("layers", "embed", "kv_heads", "head_dim")
    assert tiny["t5"].abstract()["logits/kernel"].axes == ("vocab", "embed")
    assert tiny["t5"].abstract()["encoder/relative_bias/embedding"].shape == (8, 4)
    assert "logits/kernel" not in tiny["bart"].abstract() and "logits/bias" in tiny["bart"].abstract()
    assert "encoder/final_norm/scale" not in tiny["bert"].abstract()


def test_abstract_makes_no_array_and_cannot_be_spoilt(tiny):
    before = len(jax.live_arrays())
    leaves = tiny["bert"].abstract()
    assert len(jax.live_arrays()) == before
    leaves.clear()
    assert tiny["bert"].abstract()


def test_init_is_the_same_jitted_and_not_and_follows_the_key(tiny):
    model = tiny["bert"]
    plain, jitted = model.init(jax.random.key(1)), jax.jit(model.init)(jax.random.key(1))
    other = model.init(jax.random.key(2))
    for path in plain:
        np.testing.assert_array_equal(plain[path], jitted[path], path)
    path = "encoder/layers/mlp/wi/kernel"
    assert np.abs(plain[path] - other[path]).max() > 0
    assert np.abs(plain[path][0] - plain[path][1]).max() > 0, "layers must start different"


def test_flatten_and_nest_are_inverse():
    flat = {"a/b/kernel": 1, "a/c": 2, "d": 3}
    assert axes.flatten(axes.nest(flat)) == flat


def test_a_parameter_without_axis_names_is_refused():
    with pytest.raises(ValueError, match="parameter a/kernel was made without axis names"):
        axes.leaves({"a": {"kernel": np.zeros(3)}})

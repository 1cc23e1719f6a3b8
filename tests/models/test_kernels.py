"""Whole models with kernels, interpreted on the CPU, against the plain path; and what kernels refuse."""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import encdec, encoder, heads, kernels, placing, stack

L, S = 256, 128
SMALL = {"layers": 2, "width": 16, "heads": 2, "mlp": 16}
T5 = stack.Stack(
    **SMALL, norm="rmsnorm", positions="relative", buckets=8, max_distance=100, attention_bias=False, mlp_bias=False
)
ROTARY = stack.Stack(**(SMALL | {"heads": 4}), head_dim=8, kv_heads=2, positions="rotary")
FREE = {"vocabulary": 61}
MODELS = {
    "encoder-decoder": encdec.EncoderDecoder(encoder=T5, decoder=T5, tied=False, **FREE),
    "relative encoder": encoder.Encoder(stack=T5, head=heads.MaskedLM(), **FREE),
    "rotary encoder": encoder.Encoder(stack=ROTARY, head=heads.MaskedLM(), **FREE),
    "rotary encoder-decoder": encdec.EncoderDecoder(encoder=ROTARY, decoder=ROTARY, **FREE),
}
KERNEL = {
    "encoder-decoder": "bucketed",
    "relative encoder": "bucketed",
    "rotary encoder": "splash",
    "rotary encoder-decoder": "splash",
}


def _engine(model, **engine):
    return dataclasses.replace(
        model,
        **{
            field.name: dataclasses.replace(getattr(model, field.name), **engine)
            for field in dataclasses.fields(model)
            if isinstance(getattr(model, field.name), stack.Stack)
        },
    )


def _packed(model, rows=2):
    """Two segments and padding a row; the second decoder segment of row 0 has no encoder segment to look at."""
    rng = np.random.default_rng(1)
    batch = {}
    for side, length in (("encoder", L), ("decoder", S)):
        segments = np.where(np.arange(length) < length // 3, 1, np.where(np.arange(length) < length - 20, 2, 0))
        segments = np.broadcast_to(segments, (rows, length)).copy()
        if side == "encoder" and model.kind == "encdec":
            segments[0] = np.minimum(segments[0], 1)
        batch |= {
            f"{side}_inputs": rng.integers(1, 61, (rows, length), dtype=np.int32),
            f"{side}_segments": segments.astype(np.int32),
            f"{side}_positions": np.broadcast_to(np.arange(length, dtype=np.int32), (rows, length)).copy(),
        }
    if model.kind == "encoder":
        batch["target_positions"] = np.sort(rng.integers(0, L, (rows, 9), dtype=np.int32), axis=1)
    return {name: x for name, x in batch.items() if model.kind == "encdec" or not name.startswith("decoder")}


def _loss(model, out, batch):
    def loss(params):
        return jnp.mean(jnp.sin(out(model.apply(params, batch))))

    return jax.jit(jax.value_and_grad(loss))


def _same(got, want):
    np.testing.assert_allclose(got[0], want[0], rtol=2e-5, atol=1e-6)
    top = max(float(jnp.abs(grad).max()) for grad in want[1].values())
    for path, grad in want[1].items():
        np.testing.assert_allclose(got[1][path], grad, atol=2e-5 * top, err_msg=path)


@pytest.mark.parametrize(
    "name, engine",
    [
        ("encoder-decoder", {"remat": "dots"}),
        pytest.param("encoder-decoder", {"remat": "full", "unroll": 2}, marks=pytest.mark.slow),
        ("rotary encoder", {}),
        pytest.param("rotary encoder-decoder", {"remat": "full"}, marks=pytest.mark.slow),
    ],
)
def test_a_model_with_a_kernel_is_the_plain_model(name, engine, make_params, out):
    plain = MODELS[name]
    model = _engine(plain, attention=KERNEL[name], **engine)
    assert {of.attention for of in model.stacks.values()} == {KERNEL[name]}
    assert {of.attention for of in plain.stacks.values()} == {"plain"}
    assert model.abstract() == plain.abstract(), "storage must not depend on the engine"
    assert model.costs(4, L, S, 9) == plain.costs(4, L, S, 9), "nor must the ledger"
    params, batch = make_params(plain), _packed(plain)
    with kernels.interpreted():
        jaxpr = str(jax.make_jaxpr(lambda params: model.apply(params, batch).hidden)(params))
        found = _loss(model, out, batch)(params)
    assert "pallas_call" in jaxpr
    _same(found, _loss(plain, out, batch)(params))


def test_a_model_made_plain_is_as_if_it_had_been():
    for name, plain in MODELS.items():
        model = _engine(plain, attention=KERNEL[name])
        assert model != plain and stack.altered(model, attention="plain") == plain


@pytest.mark.parametrize("name", ["relative encoder", pytest.param("encoder-decoder", marks=pytest.mark.slow)])
def test_eight_devices_give_what_one_gives(name, make_params, out):
    """Rows over data and fsdp, heads over tensor; the table's gradient is summed over rows on four devices."""
    plain = MODELS[name]
    model = _engine(plain, attention=KERNEL[name], layers=1)
    plain = _engine(plain, layers=1)
    params, batch = make_params(plain), _packed(plain, rows=4)
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 3)
    names = (("batch", ("data", "fsdp")), ("heads", "tensor"), ("kv_heads", "tensor"), ("mlp", "tensor"))
    assert mesh.size == 8
    with kernels.interpreted(), placing.rules(mesh, names):
        found = _loss(model, out, batch)(params)
    _same(found, _loss(plain, out, batch)(params))


def test_a_kernel_for_another_platform_is_refused_not_replaced(make_params):
    model = _engine(MODELS["rotary encoder"], attention="splash")
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    for around in (contextlib.nullcontext(), placing.rules(mesh, ())):
        with around, pytest.raises(ValueError, match="is a kernel for TPUs and this program is for 'cpu'; set Stack"):
            jax.eval_shape(model.apply, make_params(model), _packed(model))


BAD = [
    ({"attention": "flash"}, "attention 'flash' is unknown; choose one of plain, splash, bucketed, cudnn"),
    ({"attention": "splash"}, "no place for the bias of positions 'relative'; set attention = 'bucketed'"),
    ({"attention": "cudnn"}, "no place for the bias of positions 'relative'"),
    ({"attention": "bucketed", "positions": "rotary"}, "positions is 'rotary'; set attention = 'splash'"),
    ({"attention": "bucketed", "attention_dropout": 0.1}, "no dropout and attention_dropout is 0.1; set it to 0"),
    ({"attention": "cudnn", "positions": "rotary", "head_dim": 12}, "multiples of 8 up to 128 and this is 12"),
]


@pytest.mark.parametrize("change, message", BAD, ids=[str(c) for c, _ in BAD])
def test_what_a_kernel_cannot_compute_is_refused_in_one_line(change, message):
    with pytest.raises(ValueError, match="^Stack: ") as caught:
        dataclasses.replace(T5, **change)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_plan_names_lengths_prefixes_and_dtypes_that_a_kernel_does_not_take():
    both = _engine(MODELS["encoder-decoder"], attention="bucketed")
    found = kernels.problems(both.stacks, {"encoder_inputs": 512, "decoder_inputs": 114}, "float32")
    assert found == [
        "decoder: attention 'bucketed' takes lengths that are multiples of 128 and decoder_inputs has 114; make it 128 "
        "or set attention = 'plain'"
    ]
    alone = {"decoder": dataclasses.replace(ROTARY, attention="splash")}
    assert "has no open prefix" in kernels.problems(alone, {"decoder_inputs": 256, "decoder_prefix": 256}, "float32")[0]
    gpu = {"encoder": dataclasses.replace(ROTARY, attention="cudnn")}
    assert "computes in bfloat16" in kernels.problems(gpu, {"encoder_inputs": 100}, "float32")[0]
    assert not kernels.problems(gpu, {"encoder_inputs": 100}, "bfloat16")


def test_caches_are_filled_and_read_by_the_plain_path(make_params):
    """They are one token long or as long as a prompt, and no kernel takes that."""
    plain = MODELS["encoder-decoder"]
    model = _engine(plain, attention="bucketed")
    assert model != plain
    params, batch = make_params(plain), _packed(plain)
    encoded = jnp.zeros((2, L, 16))

    def step(model, params):
        cache = model.start_cache(params, 2, 5, encoded, batch["encoder_segments"])
        return model.decode_step(params, cache, jnp.array([3, 4]), 0)[0].hidden

    with kernels.interpreted():
        assert "pallas_call" in str(jax.make_jaxpr(lambda params: model.encode(params, batch))(params))
        texts = [str(jax.make_jaxpr(lambda params, of=of: step(of, params))(params)) for of in (model, plain)]
    assert texts[0] == texts[1] and "dot_general" in texts[0]


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN's attention needs an NVIDIA GPU")
@pytest.mark.parametrize("name", ["rotary encoder", "rotary encoder-decoder"])
def test_cudnn_is_the_plain_path_to_bfloat16(name, make_params, out):
    plain = _engine(dataclasses.replace(MODELS[name], dtype="bfloat16"), head_dim=64)
    params, batch = make_params(plain), _packed(plain)
    losses = [_loss(model, out, batch)(params) for model in (_engine(plain, attention="cudnn"), plain)]
    np.testing.assert_allclose(losses[0][0], losses[1][0], rtol=2e-2)
    for path, grad in losses[1][1].items():
        top = max(1e-3, float(jnp.abs(grad).max()))
        np.testing.assert_allclose(losses[0][1][path] / top, grad / top, atol=0.1, err_msg=path)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import placing

AXES = {"embed": "fsdp", "vocab": "tensor", "heads": "tensor", "kv_heads": "tensor", "mlp": "tensor"}
RULES = (("batch", ("data", "fsdp")), ("length", "sequence"), *AXES.items())


@pytest.mark.parametrize(
    ("name", "sizes"), [("t5", (2, 2, 1, 2)), ("labels", (2, 2, 1, 2)), ("t5", (1, 2, 2, 2)), ("labels", (1, 2, 2, 2))]
)
def test_eight_devices_give_what_one_gives(tiny, make_batch, out, name, make_params, sizes):
    model = tiny[name]
    batch = jax.tree.map(jnp.asarray, make_batch(model.kind, rows=4, length=8, targets=6))
    params = make_params(model)

    def loss(params, batch):
        return jnp.sum(jnp.sin(out(model.apply(params, batch))))

    expected, expected_grads = jax.jit(jax.value_and_grad(loss))(params, batch)
    names = ("data", "fsdp", "sequence", "tensor")
    mesh = jax.make_mesh(sizes, names, axis_types=(jax.sharding.AxisType.Auto,) * 4)
    lengths = {value.shape[1] for key, value in batch.items() if key.endswith("_segments")}
    assert all(length % mesh.shape["sequence"] == 0 for length in lengths)

    def place(leaf):
        axes = [AXES.get(axis) for axis in leaf.axes]
        fits = [a if a and size % mesh.shape[a] == 0 else None for a, size in zip(axes, leaf.shape)]
        return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*fits))

    spread = {path: jax.device_put(params[path], place(leaf)) for path, leaf in model.abstract().items()}
    kernel = spread[next(path for path in spread if path.endswith("self_attention/query/kernel"))]
    assert kernel.addressable_shards[0].data.size * 4 == kernel.size
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(("data", "fsdp")))
    with placing.rules(mesh, RULES):
        compiled = jax.jit(jax.value_and_grad(loss)).lower(spread, jax.device_put(batch, rows)).compile()
    width = model.stacks["encoder"].width
    local = f"f32[{4 // (sizes[0] * sizes[1])},{8 // sizes[2]},{width}]"
    assert local in str(compiled.as_text()), "a device has its own rows and positions of the states"
    found, grads = compiled(spread, jax.device_put(batch, rows))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for path, grad in expected_grads.items():
        np.testing.assert_allclose(grads[path], grad, atol=1e-4 * max(1, float(jnp.abs(grad).max())), err_msg=path)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import placing

AXES = {"embed": "fsdp", "vocab": "tensor", "heads": "tensor", "kv_heads": "tensor", "mlp": "tensor"}
RULES = (("batch", ("data", "fsdp")), *AXES.items())


@pytest.mark.parametrize("name", ["t5", "labels"])
def test_eight_devices_give_what_one_gives(tiny, make_batch, out, name, make_params):
    model = tiny[name]
    batch = jax.tree.map(jnp.asarray, make_batch(model.kind, rows=4))
    params = make_params(model)

    def loss(params, batch):
        return jnp.sum(jnp.sin(out(model.apply(params, batch))))

    expected, expected_grads = jax.jit(jax.value_and_grad(loss))(params, batch)
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 3)

    def place(leaf):
        axes = [AXES.get(axis) for axis in leaf.axes]
        fits = [a if a and size % mesh.shape[a] == 0 else None for a, size in zip(axes, leaf.shape)]
        return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*fits))

    spread = {path: jax.device_put(params[path], place(leaf)) for path, leaf in model.abstract().items()}
    kernel = spread[next(path for path in spread if path.endswith("self_attention/query/kernel"))]
    assert kernel.addressable_shards[0].data.size * 4 == kernel.size
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(("data", "fsdp")))
    with placing.rules(mesh, RULES):
        found, grads = jax.jit(jax.value_and_grad(loss))(spread, jax.device_put(batch, rows))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    for path, grad in expected_grads.items():
        np.testing.assert_allclose(grads[path], grad, atol=1e-4 * max(1, float(jnp.abs(grad).max())), err_msg=path)

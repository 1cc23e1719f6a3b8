"""The kernels through the real TPU compiler, which needs libtpu and no TPU."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies

from models import kernels, placing, stack
from recipes import topology

pytestmark = pytest.mark.slow
pytest.importorskip("libtpu", reason="the TPU compiler is libtpu's")

H, C = 4, 64
T5 = stack.Stack(layers=1, width=256, heads=H, mlp=4, positions="relative", attention="bucketed", attention_bias=False)
ROTARY = stack.Stack(layers=1, width=256, heads=H, kv_heads=2, mlp=4, positions="rotary", attention="splash")
NAMES = (("batch", "data"), ("heads", "tensor"), ("kv_heads", "tensor"))


@pytest.fixture(scope="module", autouse=True)
def no_cache():
    with topology.uncached():
        yield


@pytest.fixture(scope="module", params=["v5e:2x2", "v5p:2x2x1", "v6e:2x2"])
def mesh(request):
    """A mesh of the first chips of a slice: 2 for rows, 2 for heads."""
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
    devices = topologies.get_topology_desc(request.param, "tpu").devices
    axis_types = (jax.sharding.AxisType.Auto,) * 2
    return jax.sharding.Mesh(np.asarray(devices[:4]).reshape(2, 2), ("data", "tensor"), axis_types=axis_types)


@pytest.mark.parametrize(
    "config, causal, queries, keys",
    [
        (T5, False, 512, 512),
        (T5, True, 640, 640),
        (T5, False, 8192, 8192),
        (T5, True, 8192, 8192),
        (ROTARY, False, 512, 512),
        (ROTARY, True, 8192, 8192),
        (ROTARY, False, 128, 512),
    ],
    ids=lambda value: value.attention if isinstance(value, stack.Stack) else str(value),
)
def test_values_and_gradients_compile_in_memory_linear_in_the_length(mesh, config, causal, queries, keys):
    def struct(shape, dtype, *axes):
        spec = jax.sharding.PartitionSpec(*axes)
        return jax.ShapeDtypeStruct(shape, dtype, sharding=jax.sharding.NamedSharding(mesh, spec))

    def both(query, key, value, dout, first, second, table):
        def attend(query, key, value, table):
            table = table if config.relative else None
            return kernels.make(config, first, second, table=table, causal=causal)(query, key, value)

        value, pull = jax.vjp(attend, query, key, value, table)
        return value, pull(dout)

    query = struct((4, H, queries, C), jnp.bfloat16, "data", "tensor")
    key = struct((4, config.groups, C, keys), jnp.bfloat16, "data", "tensor")
    first, second = (struct((4, length), jnp.int32, "data") for length in (queries, keys))
    table = struct((config.buckets, H), jnp.float32)
    with placing.rules(mesh, NAMES):
        compiled = jax.jit(both).lower(query, key, key, query, first, second, table).compile()
    assert 'custom_call_target="tpu_custom_call"' in compiled.as_text()
    if queries == keys == 8192:
        # Per chip: 2 rows of 2 heads. Splash keeps its segments and norms 128 lanes wide, so it takes some KiB a place.
        scores = 2 * 2 * 2 * queries * keys
        assert compiled.memory_analysis().temp_size_in_bytes < scores / 8

"""Memory and compile time of a loss and its gradients with a kernel and with plain attention, from the TPU's compiler.

Nothing runs: `libtpu` compiles for a slice that needn't be there, so these are the compiler's figures, not timings.

    TPU_SKIP_MDS_QUERY=1 python -m benchmarks.attention --topology v5e:2x2 --length 512 2048 8192
"""

import argparse
import os
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from models import encoder, heads, initial, placing, stack

MIB = 1 << 20
TOKENS = 16384
"""Tokens a chip reads in a step, whatever their length."""


def model(kind: str, attention: str) -> encoder.Encoder:
    """An encoder of T5 1.1-base's shape ("relative"), or the same with rotary positions and no bias."""
    positions = {"bucketed": "relative", "splash": "rotary"}[kind]
    config = stack.Stack(
        layers=12,
        width=768,
        heads=12,
        head_dim=64,
        mlp=2048,
        activation="gelu_tanh",
        gated=True,
        norm="rmsnorm",
        positions=positions,
        attention_bias=False,
        mlp_bias=False,
        init=initial.Initial(),
        remat="dots",
        attention=attention,
    )
    return encoder.Encoder(stack=config, head=heads.MaskedLM(), vocabulary=32128, dtype="bfloat16")


def compiled(of: encoder.Encoder, device, rows: int, length: int) -> tuple[float, float]:
    """(MiB of temporaries, seconds to compile) of loss and gradients on one chip.

    Raises:
      jax.errors.JaxRuntimeError: it doesn't fit.
    """
    mesh = jax.sharding.Mesh(np.asarray([device]), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def struct(shape, dtype):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=whole)

    params = {path: struct(leaf.shape, leaf.dtype) for path, leaf in of.abstract().items()}
    names = ("encoder_inputs", "encoder_segments", "encoder_positions")
    batch = {name: struct((rows, length), jnp.int32) for name in names}
    batch |= {"target_positions": struct((rows, length // 8), jnp.int32)}

    def loss(params, batch):
        return jnp.mean(jnp.square(of.apply(params, batch).hidden.astype(jnp.float32)))

    begin = time.perf_counter()
    with placing.rules(mesh, (("batch", "data"),)):
        program = jax.jit(jax.value_and_grad(loss)).lower(params, batch).compile()
    memory: Any = program.memory_analysis()
    return memory.temp_size_in_bytes / MIB, time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", nargs="+", default=["v5e:2x2", "v6e:2x2"])
    parser.add_argument("--length", nargs="+", type=int, default=[512, 2048, 8192])
    parser.add_argument("--kernel", nargs="+", default=["bucketed", "splash"], choices=["bucketed", "splash"])
    args = parser.parse_args()
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    from jax.experimental import topologies

    print("| slice | attention | length | rows a chip | temporaries, MiB | compile, s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for topology in args.topology:
        device = topologies.get_topology_desc(topology, "tpu").devices[0]
        for kind in args.kernel:
            for length in args.length:
                for attention in ("plain", kind):
                    rows = max(1, TOKENS // length)
                    try:
                        figures = "{:,.0f} | {:.0f}".format(*compiled(model(kind, attention), device, rows, length))
                    except jax.errors.JaxRuntimeError as error:
                        if "CompileTimeHbmOom" not in str(error):
                            raise
                        figures = "does not fit | "
                    label = f"{attention}, {'relative bias' if kind == 'bucketed' else 'rotary'}"
                    print(f"| {topology.split(':')[0]} | {label} | {length} | {rows} | {figures} |", flush=True)


if __name__ == "__main__":
    main()

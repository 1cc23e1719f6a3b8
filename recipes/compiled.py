"""A stage's train step, compiled for a slice of TPUs that isn't at hand: what fits, what it does, how long it takes."""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from recipes import chips, costing, counts, mesh, recipe, roofline, step
from recipes import state as states
from recipes import topology as topologies
from tasks import quiet

CACHE = "BATON_TOPOLOGY_CACHE"
"""The environment variable that names the folder of results; `~/.cache/baton/topology` without it."""
FORMAT = 3
"""Of what is kept; another counts as absent."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Shapes:
    """Data that has shapes alone: a program can be compiled before there is a store."""

    kind: str
    features: Mapping[str, Any]

    def spec(self, batch: int) -> Mapping[str, Any]:
        del batch
        return self.features

    def parts(self) -> tuple[str, ...]:
        return ("all",)


def lower(of: recipe.Recipe, stage: recipe.Stage, topology: topologies.Topology) -> tuple[Any, states.Layout]:
    """The stage's step lowered for the slice, from shapes; raises Mistake where mesh, rules or batch don't fit it."""
    over = topology.over(of.mesh)
    rows = over.shape["data"] * over.shape["fsdp"]
    if stage.batch // stage.accumulate % rows:
        raise recipe.Mistake(
            f"stage {stage.name!r}: batch {stage.batch} in {stage.accumulate} parts doesn't divide over {rows} devices "
            f"of the data and fsdp axes {dict(over.shape)}; change batch, accumulate or the mesh"
        )
    spec = stage.data.spec(stage.batch)
    shaped = dataclasses.replace(stage, data=_Shapes(kind=stage.data.kind, features=spec))
    layout = states.layout(shaped, of.rules, over)
    batch = {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=mesh.rows(over)) for name, (shape, dtype) in spec.items()
    }
    with _placeless():
        return step.lower_train(shaped, of.rules, layout, batch), layout


@contextlib.contextmanager
def _placeless() -> Iterator[None]:
    """Inside, programs are lowered without the files and lines that they come from.

    A kernel carries them in what is compiled: what is kept would be of one folder and one state of the comments.
    """
    limit = jax.config.jax_traceback_in_locations_limit  # pyright: ignore[reportAttributeAccessIssue]
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        yield
    finally:
        jax.config.update("jax_traceback_in_locations_limit", limit)


def measure(of: recipe.Recipe, stage: recipe.Stage, topology: topologies.Topology) -> dict[str, Any]:
    """What `baton plan --topology` tells of a stage: the fields of its JSON; compiled once, then kept."""
    lowered, layout = lower(of, stage, topology)
    text = lowered.as_text()
    kept = _file(text, topology)
    if kept.is_file():
        raw = json.loads(kept.read_text())
    else:
        with topologies.uncached():
            raw = _compile(lowered, topology)
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(raw))
        part.replace(kept)
    return _figures(stage, topology, layout, raw)


def program(of: recipe.Recipe, stage: recipe.Stage, topology: topologies.Topology) -> str:
    """The compiled program's text, of a generation that jaxlib can print."""
    with topologies.uncached():
        return lower(of, stage, topology)[0].compile().as_text()


_EFFORTS = (
    "jax_optimization_level",
    "jax_memory_fitting_level",
    "jax_exec_time_optimization_effort",
    "jax_memory_fitting_effort",
)
"""Settings of JAX's that say how hard the compiler tries: another program comes out."""
_NUMBER = re.compile(r"dense<(?!0\.0+e\+00>|1\.0+e\+00>)[-+.\w]+> : tensor<f32>")
"""A rate, a decay, the steps of a schedule: programs that differ in these alone hold, do and send the same.

0 and 1 aren't among them, for the compiler leaves out what they do.
"""


def _file(text: str, topology: topologies.Topology) -> pathlib.Path:
    text = _NUMBER.sub("number", text)
    folder = pathlib.Path(os.environ.get(CACHE, os.path.expanduser("~/.cache/baton/topology")))
    versions = [FORMAT, topology.name, jax.__version__, topologies.version()]
    efforts = [str(getattr(jax.config, name)) for name in _EFFORTS]
    return folder / (hashlib.sha256(json.dumps([text, *versions, *efforts]).encode()).hexdigest() + ".json")


def _compile(lowered: Any, topology: topologies.Topology) -> dict[str, Any]:
    """Compiles; what the compiler says, and what the program does, as plain values."""
    begun = time.monotonic(), time.process_time()
    try:
        compiled = lowered.compile()
    except Exception as error:
        found = shortfall(str(error))
        if found is None:
            raise
        return {"short": found, "seconds": time.monotonic() - begun[0], "cpu_seconds": time.process_time() - begun[1]}
    took = time.monotonic() - begun[0], time.process_time() - begun[1]
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    text, said = _text(lowered, compiled)
    per_slice = topology.devices // topology.slices if topology.slices > 1 else None
    counted = counts.count(text, per_slice)
    counted.unknown += said
    return {
        "short": None,
        "seconds": took[0],
        "cpu_seconds": took[1],
        "memory": {
            "arguments": memory.argument_size_in_bytes,
            "outputs": memory.output_size_in_bytes,
            "aliased": memory.alias_size_in_bytes,
            "temporaries": memory.temp_size_in_bytes,
        },
        "once": {"flops": cost.get("flops"), "bytes": cost.get("bytes accessed")},
        "counts": dataclasses.asdict(counted),
    }


_OFFLOADS = ("scatter", "gather", "copy", "reduce", "reshape", "slice", "sort", "dynamic_padding")
_EXCHANGES = ("2d_all_gather", "3d_all_gather", "all_gather", "all_reduce", "reduce_scatter", "nd_reduce_scatter")
_NO_SPARSE_CORES = {
    "xla_tpu_offload_gather_to_sparsecore": "false",
    **{f"xla_tpu_enable_offloading_{name}_to_sparsecore": "false" for name in _OFFLOADS},
    **{f"xla_tpu_enable_sparse_core_collective_offload_{name}": "false" for name in _EXCHANGES},
}
"""Options of the compiler's with which everything stays on the TensorCores."""


def _text(lowered: Any, compiled: Any) -> tuple[str, list[str]]:
    """The program's text, and what to say of it.

    What runs on SparseCores beside the rest (v5p, tpu7x) jaxlib 0.10 can't print: "async-update instruction should have
    1 operands". Then the text is that of the same program compiled to stay on the TensorCores.
    """
    with quiet.silence():
        try:
            return compiled.as_text(), []
        except jax.errors.JaxRuntimeError as error:
            if "async-update" not in str(error):
                raise
    said = "work on SparseCores can't be read: traffic, exchanges and time are of the program without them"
    return lowered.compile(_NO_SPARSE_CORES).as_text(), [said]


_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def shortfall(message: str) -> dict[str, float] | None:
    """Bytes `used`, `limit` and `over` of a program that the compiler refused for memory; None for another message."""
    size = r"([\d.]+)([KMGT]?)i?B?"
    found = re.search(rf"\({size}\) exceeds available HBM \({size}\)", message) or re.search(
        rf"Used {size} of {size} hbm", message
    )
    if found is None:
        return None
    used, limit = (float(found.group(at)) * _UNITS[found.group(at + 1)] for at in (1, 3))
    return {"used": used, "limit": limit, "over": used - limit}


def _figures(stage: recipe.Stage, topology: topologies.Topology, layout: states.Layout, raw: Any) -> dict[str, Any]:
    chip, flops = topology.chip, costing.of_stage(stage).flops
    found: dict[str, Any] = {
        "topology": topology.name,
        "chips": topology.chips,
        "mesh": dict(layout.mesh.shape),
        "compile_seconds": raw["seconds"],
        "compile_cpu_seconds": raw["cpu_seconds"],
        "fits": raw["short"] is None,
        "hbm_limit_gib": chip.hbm_gib if raw["short"] is None else raw["short"]["limit"] / chips.GIB,
        "bytes": {
            "params": local(layout.shapes.params),
            "opt_state": local(layout.shapes.opt_state),
            "gradients": local({path: layout.shapes.params[path] for path in layout.trainable}),
        },
        "model_flops": flops,
    }
    if raw["short"] is not None:
        nothing = dict.fromkeys(("step_seconds", "bound", "mfu", "collective_bytes", "days", "chip_hours"))
        return (
            found
            | nothing
            | {"hbm_gib": raw["short"]["used"] / chips.GIB, "over_gib": raw["short"]["over"] / chips.GIB}
        )
    memory, tally = raw["memory"], counts.Counts(**raw["counts"])
    used = memory["arguments"] + memory["temporaries"] + memory["outputs"] - memory["aliased"]
    roof = roofline.estimate(tally, chip, flops, topology.devices)
    hours = roof.seconds * stage.steps / 3600
    return found | {
        "hbm_gib": used / chips.GIB,
        "memory": memory,
        "step_seconds": roof.seconds,
        "sides": roof.sides,
        "bound": roof.bound,
        "mfu": roof.mfu,
        "program_flops": tally.flops * topology.devices,
        "xla_flops_once": raw["once"]["flops"],
        "hbm_traffic": tally.bytes,
        "collective_bytes": tally.collectives,
        "sent": {"ici": tally.ici, "dcn": tally.dcn},
        "uncounted": tally.unknown,
        "days": hours / 24,
        "chip_hours": hours * topology.chips,
    }


def local(tree: Any) -> int:
    """Bytes that one device has of a tree of shapes with shardings."""
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))

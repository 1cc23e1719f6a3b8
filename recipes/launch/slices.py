"""The TPU slices that can be asked for by name: topology, chips, hosts, runtime, and what GKE calls them.

Sources, all of Google Cloud's documentation: shapes of slices and what the number in a name counts (TensorCores for v4
and v5p, two a chip; chips for v5e and v6e) from docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e}; runtimes from
docs.cloud.google.com/tpu/docs/runtimes; node labels from cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus.
"""

import dataclasses
import math

from recipes import paths, recipe


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slice:
    """One slice.

    Attributes:
      type: its name in Cloud TPU's interface, as in `--accelerator-type`.
      topology: its chips in each direction, as in '4x4'.
      chips: how many chips; JAX sees one device a chip.
      hosts: how many VMs hold them, each of which runs the command.
      runtime: the image of its VMs, where the user names none.
      generation: what `baton plan --topology` calls its chips.
      accelerator: what GKE labels its nodes with.
    """

    type: str
    topology: str
    chips: int
    hosts: int
    runtime: str
    generation: str
    accelerator: str


_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBE = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16")

# Name in Cloud TPU's interface, ours, what the number counts a chip, chips of the largest single host, image, GKE's
# label, shapes. Slices of more than one host have four chips a host.
_TABLE = (
    ("v4", "v4", 2, 4, "tpu-ubuntu2204-base", "tpu-v4-podslice", _CUBE),
    ("v5litepod", "v5e", 1, 8, "v2-alpha-tpuv5-lite", "tpu-v5-lite-podslice", _FLAT),
    ("v5p", "v5p", 2, 4, "v2-alpha-tpuv5", "tpu-v5p-slice", (*_CUBE, "16x16x16", "16x16x24")),
    ("v6e", "v6e", 1, 8, "v2-alpha-tpuv6e", "tpu-v6e-slice", _FLAT),
)


def known() -> dict[str, Slice]:
    """Every slice of the table, by type."""
    found = {}
    for prefix, generation, unit, alone, runtime, accelerator, shapes in _TABLE:
        for topology in shapes:
            chips = math.prod(int(side) for side in topology.split("x"))
            name = f"{prefix}-{chips * unit}"
            found[name] = Slice(
                type=name,
                topology=topology,
                chips=chips,
                hosts=1 if chips <= alone else chips // 4,
                runtime=runtime,
                generation=generation,
                accelerator=accelerator,
            )
    return found


def find(name: str) -> Slice:
    """The slice of this type; raises Mistake with the nearest one."""
    table = known()
    if name not in table:
        raise recipe.Mistake(f"--type {name!r} is no TPU type that baton knows{paths.nearest(name, table)}")
    return table[name]

"""Slices of TPUs by name, as `v5e:16x16` or `2xv5e:16x16`, with devices to compile for where there is no TPU."""

import contextlib
import dataclasses
import functools
import importlib.metadata
import importlib.util
import math
import os
import re
from collections.abc import Iterator
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from recipes import chips, mesh, paths, recipe

LIBTPU = "0.0.51"
"""The compiler that the figures in docs/tpu.md come from; it isn't in the lock, since only plans of slices need it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Topology:
    """Some equal slices, joined by a data-centre network.

    Attributes:
      name: as given.
      slices: how many.
      generation: a name in `chips.CHIPS`.
      shape: chips along each side of a slice.
    """

    name: str
    slices: int
    generation: str
    shape: tuple[int, ...]

    @property
    def chip(self) -> chips.Chip:
        """What each device has."""
        return chips.CHIPS[self.generation]

    @property
    def chips(self) -> int:
        """Chips in all slices."""
        return self.slices * math.prod(self.shape)

    @property
    def devices(self) -> int:
        """JAX devices in all slices."""
        return self.chips * self.chip.per_chip

    def sizes(self, axes: recipe.Mesh) -> recipe.Mesh:
        """The recipe's mesh with its -1 filled: over one slice as it says, and the slices as copies along `data`.

        Only the data axis crosses the data-centre network, which is too slow for the others.
        """
        one = mesh.sizes(axes, self.devices // self.slices)
        return recipe.Mesh(**(one | {"data": one["data"] * self.slices}))

    def over(self, axes: recipe.Mesh) -> jax.sharding.Mesh:
        """The mesh over this topology's devices, slice by slice."""
        found = sorted(describe(self), key=lambda device: getattr(device, "slice_index", 0) or 0)
        return mesh.build(self.sizes(axes), found)


def parse(name: str) -> Topology:
    """A topology by its name, [COUNTx]GENERATION:SIDExSIDE[xSIDE]; raises Mistake with the nearest name."""
    found = re.fullmatch(r"(?:(\d+)x)?([a-z]\w*):(\d+(?:x\d+)+)", name)
    if found is None:
        raise recipe.Mistake(f"topology {name!r} can't be read; write it as v5e:16x16, or 2xv5e:16x16 for two slices")
    count, generation, sides = found.groups()
    if generation not in chips.CHIPS:
        raise recipe.Mistake(
            f"topology {name!r}: no chip is named {generation!r}{paths.nearest(generation, chips.CHIPS)}; "
            f"there are {', '.join(chips.CHIPS)}"
        )
    shape = tuple(int(side) for side in sides.split("x"))
    if 0 in shape or count == "0":
        raise recipe.Mistake(f"topology {name!r} has no chips; each number is at least 1")
    return Topology(name=name, slices=int(count or 1), generation=generation, shape=shape)


def available() -> bool:
    """Whether the TPU compiler is installed."""
    return importlib.util.find_spec("libtpu") is not None


def version() -> str:
    """The TPU compiler's version."""
    return importlib.metadata.version("libtpu")


@functools.cache
def describe(topology: Topology) -> tuple[Any, ...]:
    """Devices to compile for; raises Mistake where the compiler is missing or knows no such slice."""
    if not available():
        raise recipe.Mistake(
            f"--topology {topology.name} needs the TPU compiler, which isn't installed: pip install libtpu=={LIBTPU}"
        )
    # Nothing here touches a TPU: no metadata server is asked, and several compilers may run side by side.
    for name, value in (
        ("TPU_SKIP_MDS_QUERY", "1"),
        ("ALLOW_MULTIPLE_LIBTPU_LOAD", "1"),
        ("TPU_WORKER_HOSTNAMES", "localhost"),
        ("TPU_STDERR_LOG_LEVEL", "3"),
        ("TPU_MIN_LOG_LEVEL", "3"),
    ):
        os.environ.setdefault(name, value)
    from jax.experimental import topologies

    sides = "x".join(str(side) for side in topology.shape)
    more: dict[str, Any] = {"num_slices": topology.slices} if topology.slices > 1 else {}
    if topology.generation == "v4":
        more["chip_config_name"] = "megacore"  # a v4 chip is one device, as on the machine
    try:
        found = topologies.get_topology_desc(f"{topology.generation}:{sides}", "tpu", **more).devices
    except Exception as error:  # what a wrong shape raises has no type of its own
        why = str(error).strip().split("\n")[0]
        raise recipe.Mistake(f"topology {topology.name!r}: the TPU compiler knows no such slice ({why})") from error
    if len(found) != topology.devices:
        raise recipe.Mistake(
            f"topology {topology.name!r} has {len(found)} devices by the compiler and {topology.devices} by "
            "recipes/chips.py; correct the table"
        )
    return tuple(found)


@contextlib.contextmanager
def uncached() -> Iterator[None]:
    """Inside, JAX keeps no compiled programs: without a device it writes what it can't read again (jax 0.10)."""
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
        compilation_cache.reset_cache()

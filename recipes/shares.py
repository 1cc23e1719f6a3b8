"""Which rows of a batch each process makes, and all rows of a batch back together.

The rows lie over the mesh's data and fsdp axes. Processes whose devices hold the same rows (a tensor axis that spans
hosts) make the same ones; a feed numbers its shares in the order of the first row each group of processes holds.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from recipes import agree, mesh, recipe


def own(over: jax.sharding.Mesh) -> dict[str, int]:
    """This process's share of every batch: `process_index` and `process_count` of a feed."""
    groups = _groups(over)
    mine = next(index for index, (_, members) in enumerate(groups) if jax.process_index() in members)
    return {"process_index": mine, "process_count": len(groups)}


def gather(rows: Mapping[str, Any], over: jax.sharding.Mesh) -> dict[str, np.ndarray]:
    """All rows, in the feed's order, on every process: of this process's rows, and of global arrays [rows, ...]."""
    if jax.process_count() == 1:
        return {name: np.asarray(value) for name, value in rows.items()}
    local = {name: value for name, value in rows.items() if not isinstance(value, jax.Array)}
    placed = dict(rows) | mesh.put(local, over)
    order = [row for held, _ in _groups(over) for row in held]
    return {name: _ordered(agree.whole(value), order) for name, value in placed.items()}


def _ordered(values: np.ndarray, order: list[int]) -> np.ndarray:
    """[B, ...] from the mesh's order into the feed's."""
    parts = values.reshape(len(order), -1, *values.shape[1:])
    return parts[order].reshape(values.shape)


def _groups(over: jax.sharding.Mesh) -> list[tuple[tuple[int, ...], frozenset[int]]]:
    processes = np.asarray([device.process_index for device in over.devices.flat])
    return groups(processes.reshape(over.shape["data"] * over.shape["fsdp"], -1), dict(over.shape))


def groups(processes: np.ndarray, shape: Mapping[str, int]) -> list[tuple[tuple[int, ...], frozenset[int]]]:
    """The row blocks that processes hold, and which processes hold them, by first block.

    Args:
      processes: [row blocks, devices of each] the process of each device.
      shape: the mesh's, for the message.

    Raises:
      recipe.Mistake: two processes hold some rows together and others apart, or unequally many.
    """
    held = {int(process): tuple(np.flatnonzero((processes == process).any(axis=1))) for process in np.unique(processes)}
    blocks = sorted(set(held.values()))
    if len({len(block) for block in blocks}) > 1 or sum(map(len, blocks)) != len(processes):
        raise recipe.Mistake(
            f"mesh {dict(shape)} gives the {len(held)} processes rows that overlap in part; let the tensor axis "
            "divide, or be a multiple of, the devices of one process"
        )
    return [
        (tuple(int(row) for row in block), frozenset(process for process, own in held.items() if own == block))
        for block in blocks
    ]

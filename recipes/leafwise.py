"""A checkpoint written leaf by leaf, so that memory is bounded by the largest leaf and not by the model."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from recipes import checkpoint

METADATA = "_METADATA"
ARRAYS = "array_metadatas/process_0"


class Writer:
    """Writes `checkpoints/<step>/params` of a stage's directory. Each leaf is an Orbax checkpoint, joined to the rest.

    Use it as a context: leaving it without an error writes the manifest and makes the checkpoint complete.
    """

    def __init__(self, directory: str | os.PathLike[str], step: int, manifest: Mapping[str, Any]):
        """`manifest` is the checkpoint's, already whole but for `params_digest`, which nothing here computes."""
        self._folder = epath.Path(directory) / "checkpoints" / str(step)
        self._manifest = dict(manifest)
        self._tree: dict[str, Any] = {}
        self._arrays: list[Any] = []

    def __enter__(self) -> "Writer":
        """Begins an empty checkpoint, in place of one that an interrupted run may have left."""
        if self._folder.exists():
            self._folder.rmtree()
        (self._folder / "params").mkdir(parents=True)
        return self

    def put(self, path: str, array: np.ndarray) -> None:
        """Writes the parameter at `path`."""
        alone = self._folder / "leaf"
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False)) as checkpointer:
            checkpointer.save(alone, args=ocp.args.PyTreeSave(checkpoint.nest({path: np.asarray(array)})))
        name = path.replace("/", ".")
        (alone / name).rename(self._folder / "params" / name)
        self._last = json.loads((alone / METADATA).read_text())
        self._tree |= self._last["tree_metadata"]
        if (alone / ARRAYS).exists():
            self._arrays += json.loads((alone / ARRAYS).read_text())["array_metadatas"]
        alone.rmtree()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """Completes the checkpoint, or removes it when there was an error."""
        if error is not None:
            self._folder.rmtree()
            return
        params = self._folder / "params"
        (params / METADATA).write_text(json.dumps(self._last | {"tree_metadata": self._tree}))
        if self._arrays:
            (params / ARRAYS).parent.mkdir(parents=True)
            (params / ARRAYS).write_text(json.dumps({"array_metadatas": self._arrays}))
        (self._folder / "manifest").mkdir()
        (self._folder / "manifest" / "metadata").write_text(json.dumps(self._manifest))
        checkpoint.complete(self._folder)

"""T5X checkpoints: the legacy file in msgpack, whose arrays may lie beside it in zarr; layers apart or scanned."""

import hashlib
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import msgpack
import numpy as np

FILE = "checkpoint"
_ARRAY = 1  # the extension of flax.serialization: shape, dtype, bytes
_SCAN_AXIS = 1  # T5X scans layers on the second axis of a parameter


class Reader:
    """Parameters of a checkpoint, scanned ones taken apart, by paths as `encoder/layers_0/mlp/wo/kernel`."""

    def __init__(self, where: str):
        """Reads the file, which holds small parameters or all; raises ValueError where it is no such file."""
        path = pathlib.Path(where)
        self.folder = path if path.is_dir() else path.parent
        self.files = [path / FILE if path.is_dir() else path]
        if not self.files[0].is_file():
            raise ValueError(f"{where} is no T5X checkpoint; name its folder, with a file {FILE!r}, or a msgpack file")
        try:
            tree = msgpack.unpackb(self.files[0].read_bytes(), ext_hook=_array, raw=False, strict_map_key=False)
            target = tree["optimizer"]["target"]
        except Exception as error:  # msgpack has many kinds of these
            reason = " ".join(str(error).split())[:80]
            raise ValueError(f"{self.files[0]} is no T5X checkpoint ({type(error).__name__}: {reason})") from None
        self._leaves = _flat(target)
        self._at: dict[str, tuple[str, int | None]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for name, leaf in self._leaves.items():
            self._note(name, self._shape(leaf))

    def read(self, name: str) -> np.ndarray:
        """One parameter; one layer of a scanned one."""
        path, layer = self._at[name]
        leaf = self._leaves[path]
        array = self._zarr(leaf).read().result() if isinstance(leaf, Mapping) else leaf
        array = np.asarray(array) if layer is None else np.take(np.asarray(array), layer, _SCAN_AXIS)
        return array.reshape(self.shapes[name])

    @property
    def digest(self) -> str:
        """sha256 of the file; arrays beside it are known by their metadata alone."""
        return hashlib.sha256(self.files[0].read_bytes()).hexdigest()

    def _note(self, name: str, shape: tuple[int, ...]) -> None:
        side, _, rest = name.partition("/")
        if not rest.startswith(f"{side}/"):
            self._at[name], self.shapes[name] = (name, None), _two(name, shape)
            return
        rest = rest.removeprefix(f"{side}/")
        for layer in range(shape[_SCAN_AXIS]):
            one = f"{side}/layers_{layer}/{rest}"
            self._at[one] = name, layer
            self.shapes[one] = _two(one, (*shape[:_SCAN_AXIS], *shape[_SCAN_AXIS + 1 :]))

    def _shape(self, leaf: Any) -> tuple[int, ...]:
        return tuple(self._zarr(leaf).shape if isinstance(leaf, Mapping) else leaf.shape)

    def _zarr(self, spec: Mapping[str, Any]) -> Any:
        """The array that a TensorStore spec names, found in the checkpoint's folder wherever it was written."""
        import tensorstore

        name = str(spec["kvstore"]["path"]).strip("/").split("/")[-1]
        store = {"driver": "file", "path": str(self.folder / name)}
        return tensorstore.open({"driver": "zarr", "kvstore": store}, read=True, open=True).result()


def _array(code: int, data: bytes) -> Any:
    if code != _ARRAY:
        raise ValueError(f"extension {code} is unknown")
    shape, dtype, values = msgpack.unpackb(data, raw=True)
    kind = ml_dtypes.bfloat16 if dtype == b"bfloat16" else np.dtype(dtype.decode())
    return np.frombuffer(values, kind).reshape(shape)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves by path; a TensorStore spec, which is a dict with a driver, is a leaf."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        inner = isinstance(value, Mapping) and "driver" not in value
        found |= _flat(value, f"{prefix}{name}/") if inner else {f"{prefix}{name}": value}
    return found


def _two(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with heads joined: some versions of T5X keep the heads of a kernel apart."""
    if not name.endswith("/kernel") or len(shape) < 3:
        return shape
    return (math.prod(shape[:-1]), shape[-1]) if "/out/" in name else (shape[0], math.prod(shape[1:]))

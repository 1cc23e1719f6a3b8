"""Tensors in safetensors files, one or sharded, read and written one at a time.

The format (https://huggingface.co/docs/safetensors): eight bytes that say how long the header is, the header, JSON
that gives each tensor's dtype, shape and bytes, then the bytes. It is read here rather than by the package because
NumPy has no bfloat16 and because a writer that holds one tensor at a time is not there.
"""

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
FILE, INDEX = "model.safetensors", "model.safetensors.index.json"


class Reader:
    """The tensors of a directory, of model.safetensors or of the shards that its index names, or of torch files."""

    def __init__(self, directory: str):
        """Reads the headers alone; raises ValueError where there are no such files."""
        self._folder = pathlib.Path(directory)
        self._entries: dict[str, tuple[pathlib.Path, Any, int]] = {}
        self._torch: dict[str, Any] | None = None
        if (index := self._folder / INDEX).is_file():
            files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        elif (self._folder / FILE).is_file():
            files = [FILE]
        elif (self._folder / "pytorch_model.bin").is_file():
            files = ["pytorch_model.bin"]
            self._torch = _torch(self._folder / files[0])
        else:
            raise ValueError(f"{directory} has no {FILE}, {INDEX} or pytorch_model.bin; name a model's directory")
        self.files = [self._folder / name for name in files]
        for file in self.files if self._torch is None else ():
            self._header(file)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor that holds floating-point numbers."""
        if self._torch is not None:
            return {name: tuple(value.shape) for name, value in self._torch.items()}
        return {name: tuple(entry["shape"]) for name, (_, entry, _) in self._entries.items()}

    def read(self, name: str) -> np.ndarray:
        """One tensor in its own dtype."""
        if self._torch is not None:
            return self._torch[name].float().numpy()
        file, entry, start = self._entries[name]
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{file}: {name} is of dtype {entry['dtype']}; only {', '.join(DTYPES)} are read")
        first, last = entry["data_offsets"]
        dtype = DTYPES[entry["dtype"]]
        values = np.fromfile(file, dtype, (last - first) // dtype.itemsize, offset=start + first)
        if values.size != math.prod(entry["shape"]):
            raise ValueError(f"{file} is cut off or damaged at {name}; fetch it again")
        return values.reshape(entry["shape"])

    def _header(self, file: pathlib.Path) -> None:
        with open(file, "rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if not 2 <= length <= file.stat().st_size - 8:
                raise ValueError(f"{file} is no safetensors file, or cut off; fetch it again")
            header = json.loads(opened.read(length))
        header.pop("__metadata__", None)
        self._entries |= {name: (file, entry, 8 + length) for name, entry in header.items()}


def _torch(file: pathlib.Path) -> dict[str, Any]:
    try:
        import torch  # pyright: ignore[reportMissingImports]  installed by hand
    except ImportError:
        raise ValueError(
            f"{file} is a torch file and torch is not installed; install it, or save the model as safetensors"
        ) from None
    return torch.load(file, map_location="cpu", weights_only=True)


class Writer:
    """Writes tensors of known names and shapes, in any order, into one file or shards of at most `shard` bytes."""

    def __init__(self, directory: str, shapes: Mapping[str, tuple[int, ...]], dtype: str, shard: int):
        """Lays out and writes the headers; `dtype` is one of 'float32', 'bfloat16', 'float16'."""
        self._dtype = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        code = next(code for code, known in DTYPES.items() if known == self._dtype)
        groups: list[dict[str, tuple[int, ...]]] = [{}]
        size = 0
        for name, shape in shapes.items():
            bytes_ = math.prod(shape) * self._dtype.itemsize
            if groups[-1] and size + bytes_ > shard:
                groups.append({})
                size = 0
            groups[-1][name] = shape
            size += bytes_
        self._at: dict[str, tuple[pathlib.Path, int]] = {}
        folder, total = pathlib.Path(directory), 0
        for number, group in enumerate(groups, 1):
            name = FILE if len(groups) == 1 else f"model-{number:05}-of-{len(groups):05}.safetensors"
            total += self._layout(folder / name, group, code)
        if len(groups) > 1:
            files = {name: file.name for name, (file, _) in self._at.items()}
            index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(files.items()))}
            (folder / INDEX).write_text(json.dumps(index, indent=1))

    def _layout(self, file: pathlib.Path, shapes: Mapping[str, tuple[int, ...]], code: str) -> int:
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name, shape in shapes.items():
            start, end = end, end + math.prod(shape) * self._dtype.itemsize
            header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [start, end]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(file, "wb") as opened:
            opened.write(len(text).to_bytes(8, "little") + text)
            opened.truncate(8 + len(text) + end)
        for name in shapes:
            self._at[name] = file, 8 + len(text) + header[name]["data_offsets"][0]
        return end

    def put(self, name: str, value: np.ndarray) -> None:
        """Writes one tensor in its place."""
        file, start = self._at[name]
        with open(file, "r+b") as opened:
            opened.seek(start)
            np.ascontiguousarray(value, self._dtype).tofile(opened)

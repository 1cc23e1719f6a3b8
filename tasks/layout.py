"""The arrays of a token store: TensorStore zarr3, one dimension, uncompressed, each inner chunk with its checksum."""

import hashlib
import re

import numpy as np
import tensorstore

from tasks import place

TOKENS = "tokens"
OFFSETS = "offsets"

# A shard is a file; an inner chunk is what one read fetches. 4096 tokens are 8 KiB, about seven rows of 512+114.
SHARD = 2**23
_INNER = 4096
_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
_CRC = {"name": "crc32c"}
_ENDS = 4096


def folder(part: str, split: str) -> str:
    """Returns the name of a part's folder: 'en', or 'en.validation' for another split than train.

    Raises:
        ValueError: a name that a folder cannot have, or that would be read back as another part.
    """
    for name in (part, split):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise ValueError(f"{name!r} cannot name a part or split of a store: use letters, digits, '-' and '_'")
    return part if split == "train" else f"{part}.{split}"


def dtype(size: int) -> str:
    """Returns the smallest dtype for ids below `size`."""
    return "uint16" if size <= 2**16 else "uint32"


def create(where: place.Place, name: str, *, length: int, dtype: str) -> tensorstore.TensorStore:
    """Makes the empty array `name`, in place of any old one."""
    inner = {"chunk_shape": [_INNER], "codecs": [_BYTES, _CRC], "index_codecs": [_BYTES, _CRC]}
    spec = {
        "driver": "zarr3",
        "kvstore": where.spec(name),
        # A chunk that equals the fill value is written all the same: a missing one then means damage.
        "store_data_equal_to_fill_value": True,
        "metadata": {
            "shape": [length],
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [SHARD]}},
            "data_type": dtype,
            "codecs": [{"name": "sharding_indexed", "configuration": inner}],
        },
    }
    return tensorstore.open(spec, create=True, delete_existing=True).result()


def open(where: place.Place, name: str, *, cache: int = 2**26) -> tensorstore.TensorStore:
    """Opens the array `name` for reading, with `cache` bytes of memory for shard indices and chunks in demand."""
    context = tensorstore.Context({"cache_pool": {"total_bytes_limit": cache}})
    spec = {"driver": "zarr3", "kvstore": where.spec(name), "fill_missing_data_reads": False}
    return tensorstore.open(spec, context=context, open=True, read=True).result()


def probe(tokens: tensorstore.TensorStore, offsets: tensorstore.TensorStore) -> str:
    """Returns the sha256 of both ends of both arrays."""
    running = hashlib.sha256()
    reads = []
    for array in (tokens, offsets):
        length = array.shape[0]
        reads += [array[: min(_ENDS, length)].read(), array[max(0, length - _ENDS) : length].read()]
    for read in reads:
        running.update(little_endian(read.result()))
    return running.hexdigest()


def digest(tokens: tensorstore.TensorStore, offsets: tensorstore.TensorStore) -> str:
    """Returns the digest of a part's contents, read a shard at a time."""
    parts = []
    for array in (tokens, offsets):
        parts.append(hashlib.sha256())
        for start in range(0, array.shape[0], SHARD):
            parts[-1].update(little_endian(array[start : min(start + SHARD, array.shape[0])].read().result()))
    return combine(*parts)


def combine(tokens: "hashlib._Hash", offsets: "hashlib._Hash") -> str:
    """Returns the digest of a part from those of its arrays."""
    return hashlib.sha256(tokens.digest() + offsets.digest()).hexdigest()


def little_endian(values: np.ndarray) -> bytes:
    """Returns the values' bytes as they lie on disk."""
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()

"""The batch contract: which arrays each kind of model takes, their shapes, and how pieces are laid out in them.

Shapes: B rows, Li inputs, Lt targets, M masked positions. Segment 0 is padding, segments from 1 are pieces; an encoder
segment and a decoder segment of one number belong together. Everything is int32, weights are float32.
"""

import numpy as np

from tasks import pieces

Spec = dict[str, tuple[tuple[int, ...], np.dtype]]
Batch = dict[str, np.ndarray]

_INT = np.dtype(np.int32)
_FLOAT = np.dtype(np.float32)


def encoder_spec(batch: int, length: int) -> Spec:
    """Returns the spec of what an encoder reads: inputs, segments and positions [B, Li]."""
    return {f"encoder_{name}": ((batch, length), _INT) for name in ("inputs", "segments", "positions")}


def masked_spec(batch: int, length: int, masked: int) -> Spec:
    """Returns the spec of masked language modelling: an encoder with M target positions a row."""
    return {
        **encoder_spec(batch, length),
        "target_positions": ((batch, masked), _INT),
        "targets": ((batch, masked), _INT),
        "weights": ((batch, masked), _FLOAT),
    }


def decoder_spec(batch: int, length: int, *, prefix: bool = False) -> Spec:
    """Returns the spec of a decoder alone, with `decoder_prefix` for a prefix language model."""
    spec = {f"decoder_{name}": ((batch, length), _INT) for name in ("inputs", "segments", "positions")}
    if prefix:
        spec["decoder_prefix"] = ((batch, length), _INT)
    return {**spec, "targets": ((batch, length), _INT), "weights": ((batch, length), _FLOAT)}


def encdec_spec(batch: int, inputs: int, targets: int) -> Spec:
    """Returns the spec of an encoder-decoder."""
    return {**encoder_spec(batch, inputs), **decoder_spec(batch, targets)}


def encoder(found: pieces.Pieces, length: int, *, pad: int) -> Batch:
    """Lays pieces out as an encoder's inputs [R, length]; what does not fit is cut off."""
    at = _places(found, length)
    return {
        "encoder_inputs": _lay(found.tokens, at, found.count, length, pad),
        "encoder_segments": _lay(np.repeat(found.segments(), found.lengths), at, found.count, length),
        "encoder_positions": _lay(_positions(found), at, found.count, length),
    }


def decoder(found: pieces.Pieces, length: int, *, pad: int, start: int, prefix: np.ndarray | None = None) -> Batch:
    """Lays pieces out as a decoder's targets and, shifted right behind `start`, its inputs [R, length].

    Args:
        found: the pieces.
        length: of a row.
        pad: fills rows.
        start: first input of each piece.
        prefix: [P] how many targets at the head of each piece are given, not predicted; adds `decoder_prefix`, which
            is 1 where those are read (their inputs are one to the right).
    """
    at = _places(found, length)
    shape = found.count, length
    shifted = np.empty_like(found.tokens)
    shifted[1:] = found.tokens[:-1]
    full = found.lengths > 0
    shifted[(found.ends - found.lengths)[full]] = start
    position = _positions(found)
    given = np.repeat(np.zeros_like(found.lengths) if prefix is None else prefix, found.lengths)
    batch = {
        "decoder_inputs": _lay(shifted, at, *shape, pad),
        "decoder_segments": _lay(np.repeat(found.segments(), found.lengths), at, *shape),
        "decoder_positions": _lay(position, at, *shape),
        "targets": _lay(found.tokens, at, *shape, pad),
        "weights": _lay((position >= given).astype(np.float32), at, *shape),
    }
    if prefix is not None:
        batch["decoder_prefix"] = _lay((position <= given) & (given > 0), at, *shape)
    return batch


def encdec(read: pieces.Pieces, written: pieces.Pieces, *, inputs: int, targets: int, pad: int, start: int) -> Batch:
    """Lays out an encoder-decoder's batch; piece k of `written` answers piece k of `read`, and may be empty."""
    return {**encoder(read, inputs, pad=pad), **decoder(written, targets, pad=pad, start=start)}


def prefixed(read: pieces.Pieces, written: pieces.Pieces, *, length: int, pad: int, start: int) -> Batch:
    """Lays out the same pair for a decoder alone: each piece read, as a prefix, and then written."""
    lengths = read.lengths + written.lengths
    ends = np.cumsum(lengths)
    tokens = np.empty(int(lengths.sum()), np.int32)
    at = np.arange(len(read.tokens)) + np.repeat(ends - lengths - (read.ends - read.lengths), read.lengths)
    tokens[at] = read.tokens
    tokens[np.arange(len(written.tokens)) + np.repeat(ends - written.ends, written.lengths)] = written.tokens
    both = pieces.Pieces(tokens=tokens, lengths=lengths, rows=read.rows, count=read.count)
    return decoder(both, length, pad=pad, start=start, prefix=read.lengths)


def lay(found: pieces.Pieces, length: int, *, fill: int) -> np.ndarray:
    """Lays out values that belong to the tokens of pieces, [R, length], such as labels; `fill` stands where none is."""
    return _lay(found.tokens, _places(found, length), found.count, length, fill)


def _positions(found: pieces.Pieces) -> np.ndarray:
    return np.arange(len(found.tokens)) - np.repeat(found.ends - found.lengths, found.lengths)


def _places(found: pieces.Pieces, length: int) -> np.ndarray:
    """Returns [N] where each token lies in the flat [R * length] array, or its size for a token that does not fit."""
    column = pieces.before(found.lengths, found.rows)
    first = found.rows * length + column
    at = np.repeat(first - (found.ends - found.lengths), found.lengths) + np.arange(len(found.tokens))
    if (column + found.lengths > length).any():
        at = np.where(at < np.repeat((found.rows + 1) * length, found.lengths), at, found.count * length)
    return at


def _lay(values: np.ndarray, at: np.ndarray, rows: int, length: int, fill: int = 0) -> np.ndarray:
    dtype = np.float32 if values.dtype == np.float32 else np.int32
    # One place more than needed: what does not fit goes there.
    flat = np.full(rows * length + 1, fill, dtype)
    flat[at] = values
    return flat[:-1].reshape(rows, length)

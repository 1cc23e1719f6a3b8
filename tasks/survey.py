"""A sample of what a data set feeds, and what can be counted in it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tasks import batches, corrupted, objectives, specials
from tasks import blend as blends


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spelling:
    """How ids are shown.

    Attributes:
        specials: ids with a meaning.
        text: from ids to text.
        piece: from one id to its name.
    """

    specials: specials.Specials
    text: Callable[[Sequence[int]], str]
    piece: Callable[[int], str]

    def run(self, ids: Sequence[int]) -> str:
        """Returns the text of ids inside a text: a decoder leaves out the space before its first word."""
        return (" " if ids and self.piece(ids[0]).startswith("▁") else "") + self.text(ids)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Survey:
    """The first batches of a data set.

    Attributes:
        data: the data set.
        batch: R rows, see `batches`.
        parts: names, by their numbers in batch['part'].
        spelling: how ids are shown.
        seed: that they were fed with.
    """

    data: Any
    batch: batches.Batch
    parts: tuple[str, ...]
    spelling: Spelling
    seed: int

    @property
    def rows(self) -> int:
        """R."""
        return len(self.batch["part"])

    def text_tokens(self, name: str) -> np.ndarray:
        """Returns which tokens of an array of ids stand for text, none of them special ([R, length] bool)."""
        special = self.spelling.specials
        ordinary = np.ones(special.size, bool)
        ordinary[[i for key, i in special.named().items() if key != "unk"]] = False
        return ordinary[self.batch[name]]

    def piece_lengths(self, side: str) -> np.ndarray:
        """Returns the lengths of all segments of 'encoder' or 'decoder'."""
        segments = self.batch[f"{side}_segments"]
        width = int(segments.max()) + 1
        counts = np.bincount((np.arange(self.rows)[:, None] * width + segments).ravel(), minlength=self.rows * width)
        found = counts.reshape(self.rows, width)[:, 1:]
        return found[found > 0]

    def figures(self) -> dict[str, float]:
        """Returns what there is to say, by name; shares are between 0 and 1."""
        found: dict[str, float] = {"rows looked at": self.rows}
        for side, name in (("encoder", "inputs"), ("decoder", "targets")):
            if f"{side}_segments" in self.batch:
                found[f"share of {name} used (packing)"] = float((self.batch[f"{side}_segments"] > 0).mean())
                found[f"pieces a row, {name}"] = len(self.piece_lengths(side)) / self.rows
        if self.batch["weights"].ndim == 2:
            found["share of target slots with loss"] = float((self.batch["weights"] > 0).mean())
        rate = self.corruption()
        if rate is not None:
            found["share of the text to predict"] = rate
        if self._linked():
            read, written = len(self.piece_lengths("encoder")), len(self.piece_lengths("decoder"))
            found["pieces without a target"] = max(0, read - written) / max(1, read)
        if isinstance(self.data, blends.Blend):
            found["tokens of the store a row"] = self.data.window()
            found["share of the text left out"] = self._left_out(self.data)
        return found

    def corruption(self) -> float | None:
        """Returns the share of the text that is left to predict, None where the targets are not part of the text."""
        weights = self.batch["weights"] > 0
        if "target_positions" in self.batch:
            inputs = self.text_tokens("encoder_inputs") | (self.batch["encoder_inputs"] == self.spelling.specials.mask)
            return float(weights.sum() / max(1, inputs.sum()))
        if not isinstance(self.data, blends.Blend):
            special = np.array(self.spelling.specials.sentinels, np.int64)
            if weights.ndim < 2 or not np.isin(self.batch["targets"], special).any():
                return None
        written = int((self.text_tokens("targets") & weights).sum())
        read = self.text_tokens("encoder_inputs" if "encoder_inputs" in self.batch else "targets")
        if "encoder_inputs" not in self.batch:
            read &= ~weights & (self.batch["decoder_segments"] > 0)
        if isinstance(self.data, blends.Blend) and isinstance(self.data.objective, objectives.Denoise):
            return 1 - float(read.sum()) / max(1, written)
        return written / max(1, written + int(read.sum()))

    def composition(self) -> list[tuple[str, int, float, int | None]]:
        """Returns for each part its name, its rows, its share of all tokens, and its tokens in the store."""
        used = sum((self.batch[f"{side}_segments"] > 0).sum(1) for side in self._sides())
        stored: list[int | None] = [None] * len(self.parts)
        if isinstance(self.data, blends.Blend):
            stored = [part.tokens for part in self.data.open()]
        part, found = self.batch["part"], []
        for number, name in enumerate(self.parts):
            mine = part == number
            share = float(np.sum(used * mine) / max(1, np.sum(used)))
            found.append((name, int(mine.sum()), share, stored[number]))
        return found

    def histograms(self) -> dict[str, list[tuple[int, int, int]]]:
        """Returns for each side the histogram of its pieces' lengths: (least, greatest, pieces) by bin."""
        return {
            {"encoder": "inputs", "decoder": "targets"}[side]: _bins(self.piece_lengths(side)) for side in self._sides()
        }

    def _left_out(self, data: blends.Blend) -> float:
        """Returns the share of the windows' text that is neither read nor written, for want of room."""
        if "decoder_segments" not in self.batch or "target_positions" in self.batch:
            return 0.0
        plain = dataclasses.replace(data, objective=objectives.CausalLM(), inputs=data.window(), targets=0)
        # The same windows, as they are in the store.
        whole = dataclasses.replace(self, data=plain, batch=_batch(plain, self.rows, self.seed, self.rows))
        written = self.text_tokens("targets") & (self.batch["decoder_segments"] > 0)
        seen = int(written.sum())
        if "encoder_inputs" in self.batch and not isinstance(data.objective, objectives.Denoise):
            seen += int(self.text_tokens("encoder_inputs").sum())
        return max(0.0, 1 - seen / max(1, int(whole.text_tokens("targets").sum())))

    def _sides(self) -> list[str]:
        return [side for side in ("encoder", "decoder") if f"{side}_segments" in self.batch]

    def _linked(self) -> bool:
        return len(self._sides()) == 2


def take(data: Any, *, rows: int = 256, seed: int = 0, batch: int = 32) -> Survey:
    """Returns the first rows that a data set (`Blend`, `Corrupted`, `Examples`, `Streamed`) feeds with this seed.

    Raises:
        ValueError: its first problem.
    """
    problems = data.problems()
    if problems:
        raise ValueError(problems[0])
    return Survey(
        data=data,
        batch=_batch(data, rows, seed, batch),
        parts=data.parts(),
        spelling=_spelling(data),
        seed=seed,
    )


def _batch(data: Any, rows: int, seed: int, batch: int) -> batches.Batch:
    feed = data.feed(batch=batch, seed=seed)
    try:
        found = [next(feed) for _ in range(-(-rows // batch))]
    finally:
        feed.close()
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


def _spelling(data: Any) -> Spelling:
    from tasks import vocabulary

    if not isinstance(data, blends.Blend | corrupted.Corrupted):
        from tasks import provider, seqio_vocabulary

        found = provider.open(data.mixture, data.modules)
        spelt = provider.feature(found)
        try:
            opened = seqio_vocabulary.unwrap(spelt)
        except ValueError:
            special = provider.special(found)
            return Spelling(
                specials=special, text=lambda ids: spelt.decode(list(ids)), piece=lambda i: spelt.decode([i])
            )
        return Spelling(specials=opened.specials, text=opened.decode, piece=opened.piece)
    try:
        opened = vocabulary.encoder(data.store)
    except ValueError:
        # A store of made-up ids has no text: show the numbers.
        return Spelling(specials=data.specials(), text=lambda ids: "".join(f" {i}" for i in ids), piece=str)
    return Spelling(specials=opened.specials, text=opened.decode, piece=opened.piece)


def _bins(lengths: np.ndarray, most: int = 12) -> list[tuple[int, int, int]]:
    if not len(lengths):
        return []
    longest = int(lengths.max())
    width = -(-longest // most)
    counts = np.bincount((lengths - 1) // width)
    return [(k * width + 1, min(longest, (k + 1) * width), int(count)) for k, count in enumerate(counts)]

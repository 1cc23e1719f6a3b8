"""A blend of token stores with an objective: what a pretraining stage learns from.

Importing this costs numpy alone; TensorStore and Grain are imported when a store is first opened.
"""

import dataclasses
import logging
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tasks import batches
from tasks import objective as objectives

if TYPE_CHECKING:
    from tasks import feed, specials
    from tasks import store as stores

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blend:
    """Parts of a token store, drawn by rates, under an objective.

    A row is a window of one part's token stream; documents in it are segments of their own, with positions from 0
    and no attention across.

    Attributes:
        store: directory of the token store, on disk or gs://.
        objective: what is learnt.
        inputs: length of a row's inputs.
        targets: length of a row's targets; 0 where the objective needs no length of its own for them.
        select: names of the parts, in the order of batch['part']; None for those `rates` names, or all of the store.
        rates: (part, rate) for every part, in any unit; None for temperature sampling.
        alpha: without rates, a part's rate is its tokens ** alpha: 1 by size, 0 all alike (Conneau & Lample 2019,
            arXiv:1901.07291).
        separate: whether documents are kept apart; False joins a row's documents with the doc token between.
        split: 'train', or the name of a held-out share.
        max_epochs: a part that a recipe reads more often than this is warned of; None warns of none.
    """

    finite: ClassVar[bool] = False

    store: str
    objective: objectives.Objective
    inputs: int
    targets: int = 0
    select: tuple[str, ...] | None = None
    rates: tuple[tuple[str, float], ...] | None = None
    alpha: float = 1.0
    separate: bool = True
    split: str = "train"
    max_epochs: float | None = None

    def __post_init__(self):
        """Refuses rates that do not belong to the parts."""
        named = [name for name, _ in self.rates or ()]
        if self.rates is not None and (not named or len(set(named)) < len(named)):
            raise ValueError(f"Blend: rates name the parts {named}: name each part once")
        bad = {name: rate for name, rate in self.rates or () if not rate > 0}
        if bad:
            raise ValueError(f"Blend: the rates {bad} are not positive: leave out a part that is not wanted")
        if self.rates is not None and self.select is not None and set(named) != set(self.select):
            odd = sorted(set(named) ^ set(self.select))
            raise ValueError(f"Blend: rates name {sorted(named)}, select names {sorted(self.select)}: {odd} differ")
        if self.max_epochs is not None and not self.max_epochs > 0:
            raise ValueError(f"Blend: max_epochs={self.max_epochs} is no number of epochs: give one above 0, or None")

    @property
    def kind(self) -> str:
        """Kind of model it trains: 'encoder', 'encdec' or 'decoder'."""
        return self.objective.kind

    def spec(self, batch: int) -> batches.Spec:
        """Returns name to (shape, dtype) of a global batch; reads no file."""
        spec = self.objective.spec(batch, self.inputs, self.targets)
        return {**spec, "part": ((batch,), np.dtype(np.int32))}

    def parts(self) -> tuple[str, ...]:
        """Returns the parts' names, by their numbers in batch['part']."""
        if self.select is not None:
            return self.select
        if self.rates is not None:
            return tuple(name for name, _ in self.rates)
        from tasks import store as stores

        return stores.parts(self.store, split=self.split)

    def window(self) -> int:
        """Returns how many tokens of the store a row consumes."""
        return self.objective.window(self.inputs, self.targets)

    def specials(self) -> "specials.Specials":
        """Returns the special ids of the store's vocabulary.

        Raises:
            ValueError: there is no store.
        """
        from tasks import store as stores

        return stores.vocabulary(self.store).specials

    def fingerprint(self) -> str:
        """Returns the fingerprint of the store's vocabulary.

        Raises:
            ValueError: there is no store.
        """
        from tasks import store as stores

        return stores.vocabulary(self.store).fingerprint

    def open(self) -> tuple["stores.Part", ...]:
        """Returns the parts, opened.

        Raises:
            ValueError: the store or a part is missing, unfinished, damaged or of another vocabulary.
        """
        from tasks import store as stores

        names = self.parts()
        if not names:
            raise ValueError(f"store {self.store} has no finished part of split {self.split!r}: run `baton store`")
        return tuple(stores.open(self.store, name, split=self.split) for name in names)

    def shares(self, tokens: tuple[int, ...]) -> tuple[float, ...]:
        """Returns each part's share of the rows, given the parts' sizes; they add up to 1."""
        rates = dict(self.rates) if self.rates is not None else None
        found = [
            size**self.alpha if rates is None else rates[name] for name, size in zip(self.parts(), tokens, strict=True)
        ]
        return tuple(rate / sum(found) for rate in found)

    def epochs(self, rows: int) -> dict[str, float]:
        """Returns how often `rows` rows read each part: the windows drawn from it, over those that it has.

        Raises:
            ValueError: see `open`.
        """
        parts, window = self.open(), self.window()
        shares = self.shares(tuple(part.tokens for part in parts))
        return {
            part.name: rows * share / max(1, part.tokens // window) for part, share in zip(parts, shares, strict=True)
        }

    def problems(self) -> list[str]:
        """Returns what keeps it from feeding, one line each."""
        try:
            special = self.specials()
        except ValueError as error:
            return [str(error), *self.objective.problems(inputs=self.inputs, targets=self.targets)]
        found = self.objective.problems(inputs=self.inputs, targets=self.targets, specials=special)
        try:
            if not self.separate:
                special.need("doc", "Blend with separate=False")
            self.open()
        except ValueError as error:
            found.append(str(error))
        return found

    def feed(
        self, *, batch: int, seed: int, start: int = 0, process_index: int = 0, process_count: int = 1
    ) -> "feed.Feed":
        """Returns this process's rows of the global batches start, start + 1, ...

        Args:
            batch: rows of a global batch.
            seed: of order, cuts and noise.
            start: first step.
            process_index: of this process.
            process_count: that share a batch evenly, each a run of its rows.

        Raises:
            ValueError: see `problems`; or the batch cannot be shared.
        """
        from tasks import feed, place

        rows = feed.share(batch, process_index=process_index, process_count=process_count)
        special = self.specials()
        problems = self.objective.problems(inputs=self.inputs, targets=self.targets, specials=special)
        if problems:
            raise ValueError(problems[0])
        parts = self.open()
        for part in parts:
            if part.tokens < self.window():
                _log.warning(
                    "part %r of %s has %d tokens, a window has %d: it is repeated within one row",
                    *(part.name, self.store, part.tokens, self.window()),
                )
        make = feed.from_store(
            parts,
            self.shares(tuple(part.tokens for part in parts)),
            self.objective,
            inputs=self.inputs,
            targets=self.targets,
            special=special,
            separate=self.separate,
            batch=batch,
            seed=seed,
            rows=rows,
        )
        local = place.Place(self.store).local
        return feed.Feed(make, start=start, threads=feed.THREADS if local else feed.REMOTE_THREADS)

"""Text that a model has corrupted beforehand, read in the order in which it was written.

Importing this costs numpy alone; TensorStore and Grain are imported when a store is first opened.
"""

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tasks import batches

if TYPE_CHECKING:
    from tasks import corrupted_store, feed, specials


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corrupted:
    """A store that `baton corrupt` has written: rows as a stage had them, with an auxiliary's tokens at the targets.

    Row r of a run is row r of the store, whatever the batch size and the seed are; behind the last row the first
    follows.

    Attributes:
        store: its directory, on disk or gs://.
        inputs: places of a row, as the store has them.
        targets: target slots of a row, as the store has them.
        split: 'train', or the name of a held-out share.
        max_epochs: a recipe that reads the rows more often than this is warned; None warns never. Past 1 the same
            replacements come again, at temperatures of another time.
    """

    finite: ClassVar[bool] = False
    kind: ClassVar[str] = "encoder"

    store: str
    inputs: int
    targets: int
    split: str = "train"
    max_epochs: float | None = 1.0

    def __post_init__(self):
        """Refuses a limit that is none."""
        if self.max_epochs is not None and not self.max_epochs > 0:
            raise ValueError(
                f"Corrupted: max_epochs={self.max_epochs} is no number of epochs: give one above 0, or None"
            )

    def spec(self, batch: int) -> batches.Spec:
        """Returns name to (shape, dtype) of a global batch; reads no file."""
        spec = batches.masked_spec(batch, self.inputs, self.targets)
        return {**spec, "part": ((batch,), np.dtype(np.int32))}

    def parts(self) -> tuple[str, ...]:
        """Returns the names of the blend's parts that the rows are from, by their numbers in batch['part']."""
        return tuple(self.open().about["parts"])

    def specials(self) -> "specials.Specials":
        """Returns the special ids of the store's vocabulary; raises ValueError where there is no store."""
        from tasks import store as stores

        return stores.vocabulary(self.store).specials

    def fingerprint(self) -> str:
        """Returns the fingerprint of the store's vocabulary; raises ValueError where there is no store."""
        from tasks import store as stores

        return stores.vocabulary(self.store).fingerprint

    def open(self) -> "corrupted_store.Store":
        """Returns the store, opened.

        Raises:
            ValueError: it is missing, unfinished, damaged, or has rows of other lengths.
        """
        from tasks import corrupted_store

        found = corrupted_store.open(self.store, self.split)
        ours, theirs = ({name: of[name] for name in ("inputs", "targets")} for of in (vars(self), found.about))
        if ours != theirs:
            raise ValueError(f"store {self.store} has rows of {theirs}, the recipe has {ours}: give the store's")
        return found

    def epochs(self, rows: int) -> dict[str, float]:
        """Returns how often `rows` rows read the store, for each part alike; raises ValueError as `open` does."""
        found = self.open()
        return dict.fromkeys(found.about["parts"], rows / found.rows)

    def problems(self) -> list[str]:
        """Returns what keeps it from feeding, one line each."""
        try:
            self.open()
        except ValueError as error:
            return [str(error)]
        return []

    def feed(
        self, *, batch: int, seed: int, start: int = 0, process_index: int = 0, process_count: int = 1
    ) -> "feed.Feed":
        """Returns this process's rows of the global batches start, start + 1, ...

        Args:
            batch: rows of a global batch.
            seed: has no say: the order is the store's.
            start: first step.
            process_index: of this process.
            process_count: that share a batch evenly, each a run of its rows.

        Raises:
            ValueError: see `problems`; or the batch cannot be shared.
        """
        from tasks import feed, place

        rows, found = feed.share(batch, process_index=process_index, process_count=process_count), self.open()

        def make(step: int) -> batches.Batch:
            return found.batch(np.arange(step * batch + rows.start, step * batch + rows.stop))

        local = place.Place(self.store).local
        return feed.Feed(make, start=start, threads=feed.THREADS if local else feed.REMOTE_THREADS)

"""A finite SeqIO task or mixture held in memory: what a fine-tuning stage learns from and is scored on.

Importing this costs numpy alone; SeqIO is imported when the examples are first read.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tasks import batches, pieces, schedule

if TYPE_CHECKING:
    from tasks import feed, specials, table

_KINDS = {
    "encdec": "encdec",
    "prefix": "decoder",
    "causal": "decoder",
    "tokens": "encoder",
    "sequence": "encoder",
    "span": "encoder",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Examples:
    """Examples of a registered SeqIO task or mixture with the features 'inputs' and 'targets', one a row.

    Attributes:
        mixture: its name.
        inputs: length of a row's inputs; longer ones are trimmed.
        targets: length of a row's targets, for texts.
        form: 'encdec', targets written by a decoder from the encoder's inputs; 'prefix', the same by a decoder alone,
            which reads the inputs both ways; 'causal', by one that does not, and without an end between the two;
            'tokens', one label for each input token, negative ones (-100) without loss; 'sequence', one label; 'span',
            the positions of an answer's first and last token.
        split: 'train', 'validation', ...
        modules: to import first, because they register the task.
        tasks: what registers the task, where it takes parameters: a value with a method `register()`, such as
            `cldr_examples.Tasks` or `downstream.Folder`; called each time the examples are looked up.
        limit: of each task at most so many examples, from the first.
    """

    finite: ClassVar[bool] = True

    mixture: str
    inputs: int
    targets: int = 0
    form: str = "encdec"
    split: str = "train"
    modules: tuple[str, ...] = ()
    tasks: Any = None
    limit: int | None = None

    def __post_init__(self):
        """Refuses forms that are none."""
        if self.form not in _KINDS:
            raise ValueError(f"Examples of {self.mixture!r}: form={self.form!r} is not one of {', '.join(_KINDS)}")
        if self.kind != "encoder" and self.targets < 1:
            raise ValueError(
                f"Examples of {self.mixture!r}: form={self.form!r} has targets={self.targets}: give a length"
            )

    @property
    def kind(self) -> str:
        """Kind of model it trains: 'encoder', 'encdec' or 'decoder'."""
        return _KINDS[self.form]

    def spec(self, batch: int) -> batches.Spec:
        """Returns name to (shape, dtype) of a global batch; reads no file."""
        part: batches.Spec = {"part": ((batch,), np.dtype(np.int32))}
        if self.form == "encdec":
            return {**batches.encdec_spec(batch, self.inputs, self.targets), **part}
        if self.kind == "decoder":
            row = self.inputs + self.targets
            return {**batches.decoder_spec(batch, row, prefix=self.form == "prefix"), **part}
        rest = {"tokens": (self.inputs,), "sequence": (), "span": (2,)}[self.form]
        labels: batches.Spec = {
            "targets": ((batch, *rest), np.dtype(np.int32)),
            "weights": ((batch, *rest), np.dtype(np.float32)),
        }
        return {**batches.encoder_spec(batch, self.inputs), **labels, **part}

    def table(self) -> "table.Table":
        """Returns the examples, read at the first call.

        Raises:
            ValueError: no such task or split, no examples, or not of this form.
        """
        from tasks import table

        lengths = {"inputs": self.inputs}
        if self.form in ("tokens", "encdec", "prefix", "causal"):
            lengths["targets"] = self.inputs if self.form == "tokens" else self.targets
        if self.tasks is not None:
            self.tasks.register()
        found = table.load(self.mixture, self.modules, self.split, tuple(lengths.items()), self.limit)
        if self.kind == "encoder":
            each = {"sequence": 1, "span": 2}.get(self.form)
            wanted = found.inputs.lengths if each is None else np.full_like(found.targets.lengths, each)
            bad = np.flatnonzero(found.targets.lengths != wanted)
            if len(bad):
                raise ValueError(
                    f"example {bad[0]} of {self.mixture!r} has {found.targets.lengths[bad[0]]} labels and "
                    f"{found.inputs.lengths[bad[0]]} inputs: form={self.form!r} needs {wanted[bad[0]]}"
                )
        return found

    def parts(self) -> tuple[str, ...]:
        """Returns the names of the tasks, by their numbers in batch['part']."""
        return self.table().names

    def count(self) -> int:
        """Returns the number of examples."""
        return int(self.table().counts.sum())

    def references(self) -> list[dict[str, Any]]:
        """Returns the other features of the examples, such as 'targets_pretokenized', in the order of `once`."""
        return self.table().extras

    def specials(self) -> "specials.Specials":
        """Returns the special ids of the inputs' vocabulary.

        Raises:
            ValueError: see `problems`.
        """
        return self.table().specials

    def text(self, ids: np.ndarray) -> str:
        """Returns what ids of the targets' vocabulary spell, up to the first end of sequence."""
        return self.table().spell(ids)

    def fingerprint(self) -> str | None:
        """Returns the fingerprint of the inputs' vocabulary, None where its class is unknown."""
        return self.table().fingerprint

    def problems(self) -> list[str]:
        """Returns what keeps it from feeding, one line each."""
        try:
            self.table()
        except ValueError as error:
            return [str(error)]
        return []

    def feed(
        self, *, batch: int, seed: int, start: int = 0, process_index: int = 0, process_count: int = 1
    ) -> "feed.Feed":
        """Returns this process's rows of the global batches start, start + 1, ..., without end.

        Every task's examples come once an epoch, in an order of its own each epoch; tasks take turns by their rates.

        Args:
            batch: rows of a global batch.
            seed: of the order.
            start: first step.
            process_index: of this process.
            process_count: that share a batch evenly, each a run of its rows.

        Raises:
            ValueError: see `problems`; or the batch cannot be shared.
        """
        from tasks import feed

        rows = feed.share(batch, process_index=process_index, process_count=process_count)
        found = self.table()
        turns = schedule.Turns(rates=found.rates)
        first = np.cumsum(found.counts) - found.counts
        make_rows = self._maker(found)

        def make(step: int) -> batches.Batch:
            part, number = turns.at(np.arange(step * batch + rows.start, step * batch + rows.stop))
            index, _ = schedule.shuffled(part, number, found.counts[part], seed)
            return make_rows(first[part] + index)

        return feed.Feed(make, start=start)

    def once(self, batch: int, *, process_index: int = 0, process_count: int = 1) -> Iterator[batches.Batch]:
        """Yields this process's rows of one pass over all examples in order; the last batch is filled with empty rows.

        Empty rows have weight 0 and segment 0 everywhere.

        Args:
            batch: rows of a global batch.
            process_index: of this process.
            process_count: that share a batch evenly.

        Raises:
            ValueError: see `problems`; or the batch cannot be shared.
        """
        from tasks import feed

        rows = feed.share(batch, process_index=process_index, process_count=process_count)
        found = self.table()
        make, count = self._maker(found), int(found.counts.sum())
        for first in range(0, count, batch):
            index = np.arange(first + rows.start, first + rows.stop)
            yield make(np.where(index < count, index, -1))

    def _maker(self, found: "table.Table") -> Callable[[np.ndarray], batches.Batch]:
        """Returns the function from examples' indices (-1 for an empty row) to their batch."""
        owner = np.repeat(np.arange(len(found.counts)), found.counts).astype(np.int32)
        ids = {"pad": found.specials.pad, "start": found.specials.start}

        def make(index: np.ndarray) -> batches.Batch:
            read, wanted = found.inputs.take(index), found.targets.take(index)
            made = self._lay(read, wanted, ids, index >= 0)
            return {**made, "part": np.where(index < 0, 0, owner[index]).astype(np.int32)}

        return make

    def _lay(self, read: pieces.Pieces, wanted: pieces.Pieces, ids: dict[str, int], real: np.ndarray) -> batches.Batch:
        if self.form == "encdec":
            return batches.encdec(read, wanted, inputs=self.inputs, targets=self.targets, **ids)
        if self.form == "prefix":
            return batches.prefixed(read, wanted, length=self.inputs + self.targets, **ids)
        if self.form == "causal":
            # Inputs end with EOS; a text that goes on has none there.
            read = read.cut(np.maximum(read.lengths - 1, 0))
            made = batches.prefixed(read, wanted, length=self.inputs + self.targets, **ids)
            return {name: value for name, value in made.items() if name != "decoder_prefix"}
        made = batches.encoder(read, self.inputs, pad=ids["pad"])
        if self.form == "tokens":
            labels = batches.lay(wanted, self.inputs, fill=-1)
        elif self.form == "span":
            labels = batches.lay(wanted, 2, fill=-1)
        else:
            labels = np.full(len(real), -1, np.int32)
            labels[real] = wanted.tokens
        return {**made, "targets": np.maximum(labels, 0), "weights": (labels >= 0).astype(np.float32)}

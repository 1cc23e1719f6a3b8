"""Any SeqIO mixture as it comes, through tf.data: what a stage learns from when there is no token store.

Importing this costs numpy alone; SeqIO is imported when the mixture is first opened.
"""

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tasks import batches

if TYPE_CHECKING:
    from tasks import specials, stream

_KINDS = {"encdec": "encdec", "prefix": "decoder", "causal": "decoder", "masked": "encoder"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Streamed:
    """A registered SeqIO task or mixture, packed by SeqIO's feature converters.

    The batches are a function of seed and step, the same on any number of processes: each process makes all rows and
    keeps its own. Starting at step k makes and drops the k batches before, which takes time in proportion; a token
    store (`Blend`) starts anywhere at once.

    Attributes:
        mixture: its name.
        inputs: length of a row's inputs.
        targets: length of a row's targets; for 'masked' the number of target positions.
        form: 'encdec', inputs read and targets written; 'prefix', the same by a decoder alone; 'causal', a decoder
            alone on targets; 'masked', an encoder on inputs aligned with targets, with loss where the mask id stands.
            Baton's own tasks make whole rows; they need the form of their objective.
        split: 'train', ...
        pack: whether several examples share a row.
        modules: to import first, because they register the mixture.
    """

    finite: ClassVar[bool] = False

    mixture: str
    inputs: int
    targets: int = 0
    form: str = "encdec"
    split: str = "train"
    pack: bool = True
    modules: tuple[str, ...] = ()

    def __post_init__(self):
        """Refuses forms that are none."""
        if self.form not in _KINDS:
            raise ValueError(f"Streamed {self.mixture!r}: form={self.form!r} is not one of {', '.join(_KINDS)}")
        if self.form != "causal" and self.targets < 1:
            raise ValueError(f"Streamed {self.mixture!r}: form={self.form!r} has targets={self.targets}: give a length")

    @property
    def kind(self) -> str:
        """Kind of model it trains: 'encoder', 'encdec' or 'decoder'."""
        return _KINDS[self.form]

    def spec(self, batch: int) -> batches.Spec:
        """Returns name to (shape, dtype) of a global batch; opens nothing."""
        if self.form == "encdec":
            spec = batches.encdec_spec(batch, self.inputs, self.targets)
        elif self.form == "masked":
            spec = batches.masked_spec(batch, self.inputs, self.targets)
        else:
            spec = batches.decoder_spec(batch, self.inputs + self.targets, prefix=self.form == "prefix")
        return {**spec, "part": ((batch,), np.dtype(np.int32))}

    def parts(self) -> tuple[str, ...]:
        """Returns the mixture's name: SeqIO does not tell which of its tasks a row is from."""
        return (self.mixture,)

    def specials(self) -> "specials.Specials":
        """Returns the special ids of what is read.

        Raises:
            ValueError: there is no such mixture.
        """
        from tasks import provider

        return provider.special(provider.open(self.mixture, self.modules))

    def fingerprint(self) -> str | None:
        """Returns the fingerprint of its vocabulary, None where its class is unknown."""
        from tasks import provider

        return provider.fingerprint(provider.open(self.mixture, self.modules))

    def problems(self) -> list[str]:
        """Returns what keeps it from feeding, one line each."""
        from tasks import provider, stream

        try:
            found = provider.open(self.mixture, self.modules)
            provider.split(found, self.split)
            stream.check(found, self.form)
        except ValueError as error:
            return [str(error)]
        return []

    def feed(
        self, *, batch: int, seed: int, start: int = 0, process_index: int = 0, process_count: int = 1
    ) -> "stream.StreamFeed":
        """Returns this process's rows of the global batches start, start + 1, ...

        Args:
            batch: rows of a global batch.
            seed: of order and noise.
            start: first step; the batches before it are made and dropped.
            process_index: of this process.
            process_count: that share a batch evenly, each a run of its rows.

        Raises:
            ValueError: see `problems`; or the batch cannot be shared.
        """
        from tasks import feed, provider, stream

        rows = feed.share(batch, process_index=process_index, process_count=process_count)
        found = provider.open(self.mixture, self.modules)
        provider.split(found, self.split)
        data = stream.dataset(
            found,
            form=self.form,
            inputs=self.inputs,
            targets=self.targets,
            split=self.split,
            batch=batch,
            seed=seed,
            pack=self.pack,
        )
        return stream.StreamFeed(data, form=self.form, spec=self.spec(batch), start=start, rows=rows, what=self.mixture)

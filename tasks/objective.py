"""What every objective is: a pure function from rows of tokens and random numbers to a batch of the contract."""

import abc
import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from tasks import batches, pieces, specials

KINDS = ("encdec", "decoder")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective(abc.ABC):
    """A self-supervised task on windows of a token stream.

    Everywhere `inputs` and `targets` are the lengths of a row's two sides; a decoder alone has rows of their sum.
    """

    @property
    @abc.abstractmethod
    def kind(self) -> str:
        """Kind of model it trains: 'encoder', 'encdec' or 'decoder'."""

    @abc.abstractmethod
    def window(self, inputs: int, targets: int) -> int:
        """Returns how many raw tokens a row consumes: the most that fit, were they one piece of one document."""

    @abc.abstractmethod
    def spec(self, batch: int, inputs: int, targets: int) -> batches.Spec:
        """Returns name to (shape, dtype) of what `rows` gives."""

    @abc.abstractmethod
    def rows(
        self,
        found: pieces.Pieces,
        rngs: Sequence[np.random.Generator],
        *,
        inputs: int,
        targets: int,
        specials: specials.Specials,
    ) -> batches.Batch:
        """Returns the batch of these rows; row r draws from `rngs[r]` alone, whatever rows lie beside it."""

    def needs(self) -> tuple[str, ...]:
        """Returns the names of the special ids it writes, as `Specials.need` takes them."""
        return ()

    def problems(self, *, inputs: int, targets: int, specials: specials.Specials | None = None) -> list[str]:
        """Returns what keeps it from these lengths and this vocabulary, one line each."""
        found = []
        window = self.window(inputs, targets)
        if window < 2:
            found.append(
                f"{type(self).__name__} fits no text into inputs={inputs} and targets={targets}: raise the smaller"
            )
        for name in self.needs():
            try:
                if specials is not None:
                    specials.need(name, type(self).__name__)
            except ValueError as error:
                found.append(str(error))
        return found

    def __call__(
        self,
        row: Sequence[np.ndarray],
        rng: np.random.Generator,
        *,
        inputs: int,
        targets: int,
        specials: specials.Specials,
    ) -> batches.Batch:
        """Returns one row's features, without the batch axis.

        Args:
            row: its pieces, each a part of one document; a document's last token is EOS.
            rng: where its randomness comes from.
            inputs: length of the row's inputs.
            targets: length of the row's targets.
            specials: special ids of the vocabulary.
        """
        found = self.rows(pieces.Pieces.of([row]), [rng], inputs=inputs, targets=targets, specials=specials)
        return {name: value[0] for name, value in found.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rewriting(Objective):
    """An objective that reads one text and writes another.

    Attributes:
        kind: 'encdec', where the encoder reads and the decoder writes; or 'decoder', where a decoder alone reads
            the one as a prefix with attention both ways and then writes the other.
        mode: name of the mode token put before what is read (UL2's 'R', 'S', 'X'), None for none.
    """

    kind: str = "encdec"  # pyright: ignore[reportIncompatibleMethodOverride]  a field, so that a recipe can set it
    mode: str | None = None

    def __post_init__(self):
        """Refuses other kinds."""
        require(self, self.kind in KINDS, f"kind={self.kind!r} is not one of {', '.join(KINDS)}")

    def spec(self, batch: int, inputs: int, targets: int) -> batches.Spec:
        """Returns name to (shape, dtype)."""
        if self.kind == "encdec":
            return batches.encdec_spec(batch, inputs, targets)
        return batches.decoder_spec(batch, inputs + targets, prefix=True)

    def needs(self) -> tuple[str, ...]:
        """Returns the special ids it writes."""
        return () if self.mode is None else (f"mode {self.mode}",)

    def announced(self, special: specials.Specials) -> int | None:
        """Returns the id of the mode token."""
        return None if self.mode is None else special.need(f"mode {self.mode}", type(self).__name__)

    def lay(
        self,
        read: pieces.Pieces,
        written: pieces.Pieces,
        *,
        inputs: int,
        targets: int,
        specials: specials.Specials,
    ) -> batches.Batch:
        """Lays the pair out for the kind of model."""
        ids = {"pad": specials.pad, "start": specials.start}
        if self.kind == "encdec":
            return batches.encdec(read, written, inputs=inputs, targets=targets, **ids)
        return batches.prefixed(read, written, length=inputs + targets, **ids)


def longest(fits: Callable[[int], bool], most: int) -> int:
    """Returns the largest length in [0, most] that fits, 0 where none does."""
    return next((length for length in range(most, 0, -1) if fits(length)), 0)


def require(owner: object, holds: bool, problem: str) -> None:
    """Raises a ValueError that names the objective unless its setting holds."""
    if not holds:
        raise ValueError(f"{type(owner).__name__}: {problem}: correct it in the recipe")

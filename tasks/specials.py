"""The ids with a meaning: what objectives and feeds need to know of a vocabulary, without the vocabulary.

Imports the standard library alone, so that planning a run and feeding it from a store never pay for TensorFlow.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Specials:
    """Special ids of a vocabulary.

    Attributes:
        size: number of ids, sentinels included; every id is in [0, size).
        pad: fills rows; carries no loss.
        eos: ends every document.
        unk: stands for text the vocabulary cannot spell, None where it spells everything.
        start: first decoder input.
        mask: what masked language modelling writes over a token, None where there is none.
        doc: separator of documents that are concatenated without separation.
        sentinels: ids of spans left out, in order of use (T5's convention: descending from the last id).
        modes: name of a denoising mode ('R', 'S', 'X') to the id that announces it.
    """

    size: int
    pad: int = 0
    eos: int = 1
    unk: int | None = 2
    start: int = 0
    mask: int | None = None
    doc: int | None = None
    sentinels: tuple[int, ...] = ()
    modes: Mapping[str, int] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self):
        """Refuses ids outside the vocabulary and ids with two meanings."""
        named = self.named()
        outside = {name: i for name, i in named.items() if not 0 <= i < self.size}
        if outside:
            raise ValueError(f"special ids {outside} lie outside the vocabulary of {self.size} ids: correct them")
        owners: dict[int, str] = {}
        for name, i in named.items():
            # Several published vocabularies start decoding with pad or eos, and GPT-2 pads with eos.
            if name == "start" or (name == "eos" and i == self.pad):
                continue
            if i in owners:
                raise ValueError(f"special id {i} means both {owners[i]!r} and {name!r}: give each its own id")
            owners[i] = name

    def named(self) -> dict[str, int]:
        """Returns each special by name; sentinels are 'sentinel 0', 'sentinel 1', ...; modes are 'mode R', ..."""
        found = {name: getattr(self, name) for name in ("pad", "eos", "unk", "start", "mask", "doc")}
        found = {name: i for name, i in found.items() if i is not None}
        found.update({f"sentinel {order}": i for order, i in enumerate(self.sentinels)})
        found.update({f"mode {name}": i for name, i in self.modes.items()})
        return found

    def need(self, name: str, wanted_by: str) -> int:
        """Returns the id called `name` ('mask', 'doc', 'mode R', 'sentinel 99').

        Args:
            name: as in `named`.
            wanted_by: who cannot go on without it, for the message.

        Raises:
            ValueError: the vocabulary has no such id.
        """
        try:
            return self.named()[name]
        except KeyError:
            have = [key for key in self.named() if not key.startswith("sentinel")]
            have += [f"{len(self.sentinels)} sentinels"]
            raise ValueError(
                f"{wanted_by} needs the special id {name!r} but the vocabulary has only {', '.join(have)}: "
                "train one with `baton vocab` or choose another objective"
            ) from None

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**values, "sentinels": list(self.sentinels), "modes": dict(self.modes)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Specials":
        """Inverse of `to_json`.

        Raises:
            ValueError: a field is missing, unknown or of the wrong type.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if set(values) != names:
            odd = sorted(set(values) ^ names)
            raise ValueError(f"special ids have the fields {sorted(values)}, expected {sorted(names)}: {odd} differ")
        return cls(**{**values, "sentinels": tuple(values["sentinels"]), "modes": dict(values["modes"])})

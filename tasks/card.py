"""vocabulary.json: the card that lies beside a vocabulary's file and says what its ids mean."""

import dataclasses
import hashlib
import json
from typing import Any

from tasks import place, specials

FILE = "vocabulary.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """A vocabulary without its pieces.

    Attributes:
        kind: 'sentencepiece', 'tokenizers', 'bytes', or 'plain' for ids without a vocabulary.
        file: name of the vocabulary's file in the same directory, None for bytes.
        extra_ids: sentinel ids that SeqIO adds behind the pieces of the file.
        fingerprint: sha256 of everything that decides the ids.
        specials: ids with a meaning.
    """

    kind: str
    file: str | None
    extra_ids: int
    fingerprint: str
    specials: specials.Specials

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**values, "specials": self.specials.to_json()}

    def write(self, directory: str) -> None:
        """Writes DIRECTORY/vocabulary.json."""
        place.Place(str(directory)).write_json(FILE, self.to_json())


def read(directory: str) -> Card | None:
    """Returns the card in `directory`, None where there is none.

    Raises:
        ValueError: the file is not a vocabulary's card.
    """
    where = place.Place(str(directory))
    values = where.read_json(FILE)
    if values is None:
        return None
    names = {field.name for field in dataclasses.fields(Card)}
    if set(values) != names:
        odd = sorted(set(values) ^ names)
        raise ValueError(f"{where}/{FILE} lacks or adds the fields {odd}: restore it or make the vocabulary again")
    try:
        found = specials.Specials.from_json(values["specials"])
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"{where}/{FILE} is damaged ({error}): restore it or make the vocabulary again") from None
    return Card(**{**values, "specials": found})


def plain(found: specials.Specials, *, name: str = "made up") -> Card:
    """Returns a card for ids that no vocabulary's file stands behind: tests and generated data."""
    text = json.dumps({"name": name, **found.to_json()}, sort_keys=True)
    return Card(
        kind="plain", file=None, extra_ids=0, fingerprint=hashlib.sha256(text.encode()).hexdigest(), specials=found
    )

"""What a part of a token store says of itself: its manifest, written last, so that its existence means completion."""

import dataclasses
from typing import Any

FORMAT = 1
FILE = "manifest.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """A finished part of a token store.

    Attributes:
        part: name of the corpus or language.
        split: 'train', or the name of a held-out share such as 'validation'.
        tokens: length of the token stream; every document's end is marked by EOS.
        documents: number of documents; there is one offset more.
        dtype: 'uint16' or 'uint32', the smallest that holds the vocabulary.
        vocabulary: fingerprint of the vocabulary that made the ids.
        source: {'description', 'digest', 'validation', 'side'}: the text, the share held out, and which side this is.
        digest: sha256 of the sha256 of the tokens and that of the offsets, both little endian.
        probe: sha256 of both ends of the tokens and of the offsets, cheap to check whenever the part is opened.
        files: path of every file below the part to its size in bytes, None where a bucket would not tell.
        characters: length of the text in code points.
        bytes: length of the text in UTF-8.
        created_by: versions of the libraries that decide the ids and the layout.
        format: version of the layout.
    """

    part: str
    split: str
    tokens: int
    documents: int
    dtype: str
    vocabulary: str
    source: dict[str, Any]
    digest: str
    probe: str
    files: dict[str, int | None]
    characters: int
    bytes: int
    created_by: dict[str, str]
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {("vocabulary_fingerprint" if name == "vocabulary" else name): value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any], *, where: str) -> "Manifest":
        """Inverse of `to_json`.

        Args:
            values: the JSON object.
            where: the file, for messages.

        Raises:
            ValueError: it is of another format, or a field is missing or unknown.
        """
        if values.get("format") != FORMAT:
            raise ValueError(
                f"{where} is of format {values.get('format')!r} but this program reads format {FORMAT}: "
                "build the store again with `baton store --overwrite`"
            )
        values = {("vocabulary" if key == "vocabulary_fingerprint" else key): value for key, value in values.items()}
        names = {field.name for field in dataclasses.fields(cls)}
        if set(values) != names:
            odd = sorted(set(values) ^ names)
            raise ValueError(f"{where} lacks or adds the fields {odd}: restore it or build the store again")
        return cls(**values)

"""Files of Hugging Face's `tokenizers` library (tokenizer.json) as encoders."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers

from tasks import card, encoder, place, specials

FILE = "tokenizer.json"

# What published tokenizers call their special pieces, for files that come without their configuration; the first wins.
_USUAL = {
    "pad": ("<pad>", "[PAD]", "<|padding|>", "<|pad|>"),
    "eos": ("</s>", "<eos>", "[SEP]", "<|endoftext|>", "<|end_of_text|>", "[EOS]"),
    "unk": ("<unk>", "[UNK]"),
    "mask": (encoder.MASK, "<mask>", "<|mask|>"),
    "doc": (encoder.DOC,),
}
# Keys of special_tokens_map.json and tokenizer_config.json; BERT ends its documents with the separator.
_CONFIGURED = {
    "pad": ("pad_token",),
    "eos": ("eos_token", "sep_token"),
    "unk": ("unk_token",),
    "mask": ("mask_token",),
}
_ROLES = ("pad", "eos", "unk", "start", "mask", "doc")


class TokenizerJson(encoder.Encoder):
    """A tokenizer.json: byte-level BPE, WordPiece, Unigram and the rest, with its own normaliser."""

    def __init__(self, path: str, *, names: Mapping[str, str] | None = None, found: specials.Specials | None = None):
        """Loads the file and finds its special ids.

        Args:
            path: the .json file.
            names: role ('pad', 'eos', 'unk', 'start', 'mask', 'doc') to the piece that plays it. A role that is left
                out is looked up in special_tokens_map.json or tokenizer_config.json in the same directory, then among
                the usual spellings; the decoder starts with pad unless `names` says otherwise.
            found: special ids that are known already, from a card.

        Raises:
            ValueError: not such a file, or pad or EOS cannot be found in it.
        """
        text = encoder.contents(path)
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(text.decode())
        except Exception as error:  # the library raises plain Exception
            reason = " ".join(str(error).split())[:120]
            raise ValueError(f"{path} is not a `tokenizers` file ({reason}): give a tokenizer.json") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        ids = self._tokenizer.get_vocab(with_added_tokens=True)
        found = found or _find(path, ids, dict(names or {}))
        super().__init__(
            path,
            card.Card(kind="tokenizers", file=FILE, extra_ids=0, fingerprint=_fingerprint(text, found), specials=found),
        )

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns the ids of each text, int32, without EOS or any other piece that the file would add."""
        encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [np.array(one.ids, np.int32) for one in encoded]

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of ids without pad and EOS; sentinels and masks appear by name."""
        silent = {self.specials.pad, self.specials.eos}
        return self._tokenizer.decode([int(i) for i in ids if i not in silent], skip_special_tokens=False)

    def piece(self, index: int) -> str:
        """Returns the name of an id."""
        return self._tokenizer.id_to_token(int(index)) or f"<{index}>"


def _find(path: str, ids: Mapping[str, int], names: Mapping[str, str]) -> specials.Specials:
    odd = sorted(set(names) - set(_ROLES))
    if odd:
        raise ValueError(f"{path}: {odd[0]!r} is no role of a special piece: name any of {', '.join(_ROLES)}")
    configured = _configured(path)
    found: dict[str, int] = {}
    for role in _ROLES:
        candidates = [names[role]] if role in names else [*configured.get(role, ()), *_USUAL.get(role, ())]
        there = [ids[piece] for piece in candidates if piece in ids]
        if there:
            found[role] = there[0]
        elif role in names or role in ("pad", "eos"):
            raise ValueError(
                f"{path} has no {role} piece (looked for {', '.join(candidates)}): "
                f"add one to the file or say which piece plays it, names={{'{role}': PIECE}}"
            )
    # A piece with two parts: GPT-2 pads with its end of text. Only pad may share, and then with EOS.
    return specials.Specials(
        size=max(ids.values()) + 1,
        pad=found["pad"],
        eos=found["eos"],
        unk=found.get("unk") if found.get("unk") not in (found["pad"], found["eos"]) else None,
        start=found.get("start", found["pad"]),
        mask=found.get("mask"),
        doc=found.get("doc"),
        sentinels=encoder.sentinels(ids),
        modes={name: ids[piece] for name, piece in encoder.MODES.items() if piece in ids},
    )


def _configured(path: str) -> dict[str, list[str]]:
    """Reads which piece plays which role from the files that transformers writes beside a tokenizer.json."""
    found: dict[str, list[str]] = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        values = place.Place(os.path.dirname(path) or ".").read_json(file) or {}
        for role, keys in _CONFIGURED.items():
            found.setdefault(role, []).extend(_content(values[key]) for key in keys if values.get(key))
    return found


def _content(piece: Any) -> str:
    return piece["content"] if isinstance(piece, dict) else piece


def _fingerprint(text: bytes, found: specials.Specials) -> str:
    """Covers what decides the ids: not the decoder, padding, truncation or the template around a pair."""
    values = json.loads(text)
    parts = {key: values.get(key) for key in ("normalizer", "pre_tokenizer", "model", "added_tokens")}
    return hashlib.sha256(json.dumps([parts, found.to_json()], sort_keys=True).encode()).hexdigest()

"""The tokenizer beside a published model, as a vocabulary, and back."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from tasks import encoder, sentencepieces, specials, tokenizer_json, vocabulary

FOLDER = "vocabulary"
_MODEL, _JSON = "spiece.model", "tokenizer.json"


def find(directory: str, config: Mapping[str, Any]) -> encoder.Encoder | None:
    """The vocabulary of a model directory, its special ids held to the configuration; None where there is no file.

    A SentencePiece model counts under the name spiece.model alone: other names are of families whose ids are not
    those of the model (XLM-R, mBART), or lack a pad piece (Llama), and these have a tokenizer.json.

    Raises:
      ValueError: the ids of the tokenizer and of the configuration differ.
    """
    folder = pathlib.Path(directory)
    if (folder / _MODEL).is_file():
        alone = sentencepieces.SentencePiece(str(folder / _MODEL))
        said = _json(folder / "tokenizer_config.json").get("extra_ids")
        # T5's tokenizer puts a hundred sentinels behind the pieces of a model that has none.
        extra = 0 if alone.specials.sentinels else (100 if said is None else said)
        found: encoder.Encoder = sentencepieces.SentencePiece(str(folder / _MODEL), extra_ids=extra)
    elif (folder / _JSON).is_file():
        found = tokenizer_json.TokenizerJson(str(folder / _JSON), names=_roles(folder, config))
    else:
        return None
    _check(found.specials, config, directory)
    return found


def save(opened: str, directory: str) -> specials.Specials:
    """Writes a vocabulary's files as transformers names them, and returns its special ids."""
    found = vocabulary.encoder(opened)
    folder = pathlib.Path(directory)
    if found.card.kind == "sentencepiece":
        (folder / _MODEL).write_bytes(encoder.contents(found.path))
        of = {"tokenizer_class": "T5Tokenizer", "extra_ids": found.card.extra_ids}
    elif found.card.kind == "tokenizers":
        (folder / _JSON).write_bytes(encoder.contents(found.path))
        of = {"tokenizer_class": "PreTrainedTokenizerFast"}
    else:
        return found.specials
    names = {f"{role}_token": getattr(found.specials, role) for role in ("pad", "eos", "unk", "mask")}
    of |= {name: found.piece(index) for name, index in names.items() if index is not None}
    (folder / "tokenizer_config.json").write_text(json.dumps(of, indent=1))
    return found.specials


def _roles(folder: pathlib.Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Pieces that play the roles for which the configuration names an id."""
    values = json.loads((folder / _JSON).read_text())
    pieces = values["model"].get("vocab", {})
    ids = {index: piece for index, (piece, _) in enumerate(pieces)} if isinstance(pieces, list) else {}
    ids |= {index: piece for piece, index in pieces.items()} if isinstance(pieces, dict) else {}
    ids |= {added["id"]: added["content"] for added in values.get("added_tokens", ())}
    named = {"pad": "pad_token_id", "eos": "eos_token_id", "start": "decoder_start_token_id"}
    found = {role: ids[config[key]] for role, key in named.items() if config.get(key) in ids}
    if "eos" not in found and config.get("sep_token_id") in ids:
        found["eos"] = ids[config["sep_token_id"]]
    if "pad" not in found and "eos" in found:
        found["pad"] = found["eos"]  # GPT-2 and Llama have no pad piece: their rows are filled with the end of text
    return found


def _check(found: specials.Specials, config: Mapping[str, Any], directory: str) -> None:
    size = config.get("vocab_size")
    if size is not None and found.size > size:
        raise ValueError(f"{directory}: the tokenizer has {found.size} ids and config.json vocab_size = {size}")
    for role, key in (("pad", "pad_token_id"), ("eos", "eos_token_id"), ("start", "decoder_start_token_id")):
        said = config.get(key)
        if isinstance(said, int) and said != getattr(found, role):
            raise ValueError(
                f"{directory}: config.json has {key} = {said} and the tokenizer {getattr(found, role)}; make them agree"
            )


def _json(file: pathlib.Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.is_file() else {}

"""Which characters of a text each of its ids spells, for every vocabulary that `vocabulary.encoder` opens."""

import functools
from collections.abc import Sequence

import numpy as np
import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2

from tasks import encoder, sentencepieces, tokenizer_json

Spelt = tuple[np.ndarray, np.ndarray]


def spelt(vocabulary: encoder.Encoder, texts: Sequence[str]) -> list[Spelt]:
    """Returns for each text its ids, [n] int32 without EOS, and [n, 2] int32: where each id's characters begin and end.

    Begins and ends never go back. Ids that share a character (bytes of it) all have that character; an id may begin
    with the space before its word.

    Raises:
        ValueError: a class of vocabulary whose ids cannot be placed.
    """
    if isinstance(vocabulary, encoder.Bytes):
        return [_bytes(ids, text) for ids, text in zip(vocabulary.encode(texts), texts, strict=True)]
    if isinstance(vocabulary, sentencepieces.SentencePiece):
        processor = _processor(vocabulary.path, vocabulary.card.extra_ids)
        found = processor.encode(list(texts), return_type="offset_mapping", num_threads=1)
        return [_placed(one["ids"], one["offsets"]) for one in found]
    if isinstance(vocabulary, tokenizer_json.TokenizerJson):
        found = _tokenizer(vocabulary.path).encode_batch(list(texts), add_special_tokens=False)
        return [_placed(one.ids, one.offsets) for one in found]
    raise ValueError(
        f"where a {type(vocabulary).__name__}'s ids stand in a text is not known: "
        "use SentencePiece, bytes or a `tokenizers` file"
    )


def _bytes(ids: np.ndarray, text: str) -> Spelt:
    owner = np.repeat(np.arange(len(text)), [len(char.encode()) for char in text]).astype(np.int32)
    return ids, np.stack([owner, owner + 1], axis=1)


def _placed(ids: Sequence[int], offsets: Sequence[tuple[int, int]]) -> Spelt:
    found = np.array(offsets, np.int32).reshape(-1, 2)
    # The first bytes of a character spell nothing by themselves, nor does a space put before the text: they go with
    # the next id.
    for at in range(len(found) - 2, -1, -1):
        if found[at, 0] == found[at, 1] == found[at + 1, 0]:
            found[at, 1] = found[at + 1, 1]
    return np.array(ids, np.int32), np.maximum.accumulate(found)


@functools.lru_cache(maxsize=2)
def _processor(path: str, extra_ids: int) -> sentencepiece.SentencePieceProcessor:
    model = sentencepiece_model_pb2.ModelProto()  # pyright: ignore[reportAttributeAccessIssue]
    model.ParseFromString(encoder.contents(path))
    # As tasks/sentencepieces.py adds them.
    for number in reversed(range(extra_ids)):
        kind = sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED  # pyright: ignore[reportAttributeAccessIssue]
        model.pieces.add(piece=f"▁<extra_id_{number}>", score=0.0, type=kind)
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(model.SerializeToString())
    return processor


@functools.lru_cache(maxsize=2)
def _tokenizer(path: str) -> tokenizers.Tokenizer:
    found = tokenizers.Tokenizer.from_str(encoder.contents(path).decode())
    found.no_truncation()
    found.no_padding()
    return found

"""Our encoders as SeqIO vocabularies, and SeqIO's vocabularies as encoders. Imports TensorFlow."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from tasks import encoder, sentencepieces, tokenizer_json


class TokenizerJsonVocabulary(seqio.Vocabulary):
    """A tokenizer.json as a SeqIO vocabulary."""

    def __init__(self, opened: tokenizer_json.TokenizerJson):
        """Wraps an opened file."""
        super().__init__(extra_ids=0)
        self.encoder = opened

    @property
    def bos_id(self) -> int | None:
        """First decoder input, which is what SeqIO means by it."""
        return self.encoder.specials.start

    @property
    def eos_id(self) -> int | None:
        """End of a document."""
        return self.encoder.specials.eos

    @property
    def pad_id(self) -> int:
        """Filling of rows."""
        return self.encoder.specials.pad

    @property
    def unk_id(self) -> int | None:
        """What the file cannot spell."""
        return self.encoder.specials.unk

    @property
    def _base_vocab_size(self) -> int:
        return self.encoder.specials.size

    def _encode(self, s: str) -> Sequence[int]:
        return self.encoder.encode([s])[0].tolist()

    def _decode(self, ids: Any) -> str:
        return self.encoder.decode(list(ids))

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        def spell(text: Any) -> Any:
            return self.encoder.encode([np.asarray(text).item().decode()])[0]

        ids = tf.numpy_function(spell, [tf.convert_to_tensor(s)], tf.int32, stateful=False)
        ids.set_shape([None])
        return ids

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        def text(rows: Any) -> Any:
            if rows.ndim == 1:
                return self.encoder.decode(rows.tolist()).encode()
            return [self.encoder.decode(row.tolist()).encode() for row in rows]

        found = tf.numpy_function(text, [tf.convert_to_tensor(ids)], tf.string, stateful=False)
        found.set_shape(ids.shape[:-1])
        return found

    def __eq__(self, other: object) -> bool:
        """Returns whether both give every text the same ids."""
        return isinstance(other, TokenizerJsonVocabulary) and self.encoder.fingerprint == other.encoder.fingerprint

    def __hash__(self) -> int:
        """Goes with `__eq__`."""
        return hash(self.encoder.fingerprint)


def wrap(opened: encoder.Encoder) -> seqio.Vocabulary:
    """Returns the SeqIO vocabulary with the ids of an encoder."""
    if isinstance(opened, sentencepieces.SentencePiece):
        return seqio.SentencePieceVocabulary(opened.path, extra_ids=opened.card.extra_ids)
    if isinstance(opened, tokenizer_json.TokenizerJson):
        return TokenizerJsonVocabulary(opened)
    return seqio.ByteVocabulary(extra_ids=opened.card.extra_ids)


def unwrap(vocabulary: seqio.Vocabulary) -> encoder.Encoder:
    """Returns the encoder with the ids of a SeqIO vocabulary.

    Raises:
        ValueError: a class of vocabulary that has no encoder.
    """
    if isinstance(vocabulary, TokenizerJsonVocabulary):
        return vocabulary.encoder
    if isinstance(vocabulary, seqio.SentencePieceVocabulary):
        path = vocabulary.sentencepiece_model_file
        return sentencepieces.SentencePiece(path, extra_ids=vocabulary.extra_ids)
    if isinstance(vocabulary, seqio.ByteVocabulary):
        return encoder.Bytes(extra_ids=vocabulary.extra_ids)
    raise ValueError(
        f"the special ids of a {type(vocabulary).__name__} are not known: "
        "use SentencePiece, bytes or a `tokenizers` file, opened with `vocabulary.load`"
    )

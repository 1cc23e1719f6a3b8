"""SentencePiece models (https://arxiv.org/abs/1808.06226) as encoders."""

import hashlib
from collections.abc import Sequence

import numpy as np
import sentencepiece
from google.protobuf import message
from sentencepiece import sentencepiece_model_pb2

from tasks import card, encoder, specials


class SentencePiece(encoder.Encoder):
    """A SentencePiece model, with SeqIO's extra ids behind its pieces."""

    def __init__(self, path: str, *, extra_ids: int = 0):
        """Loads the model file.

        Args:
            path: the .model file.
            extra_ids: sentinels to add behind the pieces; models that hold '<extra_id_0>' need none.

        Raises:
            ValueError: not a SentencePiece model, or one without EOS or with another pad id than 0, which SeqIO needs.
        """
        model = _parse(path)
        fingerprint = _fingerprint(model, extra_ids)
        # The same placeholders as seqio.SentencePieceVocabulary adds, so that both spell every text alike.
        for number in reversed(range(extra_ids)):
            model.pieces.add(piece=f"▁<extra_id_{number}>", score=0.0, type=_USER_DEFINED)
        self._processor = sentencepiece.SentencePieceProcessor()
        self._processor.LoadFromSerializedProto(model.SerializeToString())
        pad, eos = self._processor.pad_id(), self._processor.eos_id()
        if pad != 0 or eos < 0:
            raise ValueError(
                f"{path} has pad id {pad} and eos id {eos} but SeqIO needs pad 0 and some eos: "
                "train the model with pad_id=0, eos_id=1, unk_id=2"
            )
        ids = {piece.piece: index for index, piece in enumerate(model.pieces)}
        found = specials.Specials(
            size=len(model.pieces),
            pad=pad,
            eos=eos,
            unk=self._processor.unk_id(),
            start=pad,
            mask=next((ids[name] for name in (encoder.MASK, "<mask>") if name in ids), None),
            doc=ids.get(encoder.DOC),
            sentinels=encoder.sentinels(ids),
            modes={name: ids[piece] for name, piece in encoder.MODES.items() if piece in ids},
        )
        kind, file = "sentencepiece", "vocabulary.model"
        super().__init__(
            path, card.Card(kind=kind, file=file, extra_ids=extra_ids, fingerprint=fingerprint, specials=found)
        )

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns the ids of each text, int32, without EOS."""
        return self._processor.encode(list(texts), out_type="numpy", num_threads=1)

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of ids; control pieces such as the mask have none."""
        return self._processor.decode([int(i) for i in ids])

    def piece(self, index: int) -> str:
        """Returns the name of an id."""
        name = self._processor.id_to_piece(int(index))
        return name.removeprefix("▁") if name.startswith("▁<extra_id_") else name


_USER_DEFINED = sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED  # pyright: ignore[reportAttributeAccessIssue]


def _parse(path: str) -> sentencepiece_model_pb2.ModelProto:  # pyright: ignore[reportAttributeAccessIssue]
    model = sentencepiece_model_pb2.ModelProto()  # pyright: ignore[reportAttributeAccessIssue]
    try:
        model.ParseFromString(encoder.contents(path))
    except message.DecodeError:
        model.Clear()
    if not model.pieces:
        raise ValueError(f"{path} is not a SentencePiece model: give the .model file that its trainer wrote")
    return model


def _fingerprint(model: sentencepiece_model_pb2.ModelProto, extra_ids: int) -> str:  # pyright: ignore[reportAttributeAccessIssue]
    """Leaves out what does not decide the ids, such as the paths the model was trained from."""
    running = hashlib.sha256()
    for piece in model.pieces:
        running.update(f"{piece.piece}\t{piece.score!r}\t{piece.type}\n".encode())
    running.update(model.normalizer_spec.SerializeToString(deterministic=True))
    spec = model.trainer_spec
    flags = spec.model_type, spec.byte_fallback, spec.treat_whitespace_as_suffix, spec.pad_id, spec.eos_id, spec.unk_id
    running.update(f"{flags} {extra_ids}".encode())
    return running.hexdigest()

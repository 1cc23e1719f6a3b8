"""Vocabularies: training one, opening one for SeqIO (`load`) or without TensorFlow (`encoder`)."""

import io
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import sentencepiece

from tasks import card, place, sample, sentencepieces, sources, tokenizer_json
from tasks import encoder as encoders
from tasks import specials as specials_

if TYPE_CHECKING:
    import seqio

MODEL = "vocabulary.model"
SENTINELS = 100
_NORMALISATIONS = ("identity", "nfkc")


def encoder(
    path: str | os.PathLike[str], *, extra_ids: int | None = None, names: Mapping[str, str] | None = None
) -> encoders.Encoder:
    """Opens a vocabulary without TensorFlow.

    Args:
        path: 'bytes', a .model file, a `tokenizers` .json file, or a directory (or store) with a vocabulary.json.
        extra_ids: sentinel ids to add behind the pieces of a .model file; None takes the number in the
            vocabulary.json beside it, else 0.
        names: which pieces of a .json file are special, see `tokenizer_json.TokenizerJson`.

    Raises:
        ValueError: no such vocabulary, not one of these kinds, changed since its vocabulary.json was written, or it
            lacks an id that every vocabulary needs.
    """
    path = str(path)
    if path == encoders.BYTES:
        return encoders.Bytes() if extra_ids is None else encoders.Bytes(extra_ids=extra_ids)
    if path.endswith(f"/{card.FILE}") or path == card.FILE:
        path = os.path.dirname(path) or "."
    if not path.endswith((".model", ".json")):
        found = card.read(path)
        if found is None:
            raise ValueError(
                f"{path} is no vocabulary, it has no {card.FILE}: give a .model or .json file, a directory, or 'bytes'"
            )
        return _carded(path, found, extra_ids)
    directory, file = os.path.split(path)
    found = card.read(directory or ".")
    if found is not None and found.file == file and names is None:
        return _carded(directory or ".", found, extra_ids)
    if path.endswith(".json"):
        return tokenizer_json.TokenizerJson(path, names=names)
    return sentencepieces.SentencePiece(path, extra_ids=extra_ids or 0)


def load(
    path: str | os.PathLike[str], *, extra_ids: int | None = None, names: Mapping[str, str] | None = None
) -> "seqio.Vocabulary":
    """Opens a vocabulary for SeqIO, with the ids of `encoder`.

    Args:
        path: as for `encoder`.
        extra_ids: as for `encoder`.
        names: as for `encoder`.

    Raises:
        ValueError: as for `encoder`.
    """
    opened = encoder(path, extra_ids=extra_ids, names=names)
    # TensorFlow takes nine seconds to import: only here.
    from tasks import seqio_vocabulary

    return seqio_vocabulary.wrap(opened)


def specials(vocabulary: "seqio.Vocabulary | encoders.Encoder") -> specials_.Specials:
    """Returns the special ids of a vocabulary.

    Raises:
        ValueError: a class of vocabulary whose special ids are not known.
    """
    return _opened(vocabulary).specials


def fingerprint(vocabulary: "seqio.Vocabulary | encoders.Encoder") -> str:
    """Returns the sha256 of everything that decides a vocabulary's ids.

    Raises:
        ValueError: a class of vocabulary whose pieces are not known.
    """
    return _opened(vocabulary).fingerprint


def train(
    corpora: Mapping[str, sources.Source],
    directory: str | os.PathLike[str],
    *,
    size: int,
    sentinels: int = SENTINELS,
    normalisation: str = "identity",
    alpha: float = 0.3,
    sentences: int = 1_000_000,
    coverage: float = 0.9995,
    threads: int = 8,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> encoders.Encoder:
    """Trains a SentencePiece unigram model with byte fallback and writes it, with its vocabulary.json.

    Pieces: pad 0, EOS 1, UNK 2, [MASK], [DOC], [R], [S], [X] (control pieces, which no text can spell), 256 bytes, then
    what is learnt, then the sentinels. The same arguments give the same file.

    Args:
        corpora: name to text.
        directory: where vocabulary.model and vocabulary.json go, on disk or gs://.
        size: number of ids, sentinels included.
        sentinels: extra ids for spans left out.
        normalisation: 'identity', which keeps every character and space, or 'nfkc'.
        alpha: corpora are sampled in proportion to characters**alpha: 1 as they are, 0 all alike
            (https://arxiv.org/abs/1911.02116 uses 0.3).
        sentences: how many sentences are sampled in all, of up to 512 characters.
        coverage: share of characters that get a piece of their own, the others are spelt in bytes.
        threads: changes the speed and, since sums are rounded, the result in the last digits.
        seed: of the sample.
        progress: told in one line what is going on.

    Returns:
        The vocabulary, opened.

    Raises:
        ValueError: nothing to train on, a size the text cannot fill or that cannot hold the characters, a model that
            is there already.
    """
    where = place.Place(str(directory))
    if where.read(MODEL) is not None or card.read(str(directory)) is not None:
        raise ValueError(f"{where} holds a vocabulary already: give another directory or delete it")
    if normalisation not in _NORMALISATIONS:
        raise ValueError(f"normalisation {normalisation!r} is none of {', '.join(_NORMALISATIONS)}")
    lines = sample.Sample(corpora=corpora, sentences=sentences, alpha=alpha, seed=seed)
    tell = progress or (lambda line: None)
    tell("counting the text")
    counts = lines.count()
    quotas = ", ".join(f"{name} {quota}" for name, quota in lines.quotas(counts).items())
    tell(f"training {size} ids on sentences: {quotas}")
    model = _train(
        lines.draw(counts),
        size=size,
        sentinels=sentinels,
        normalization_rule_name=normalisation,
        # Unnormalised text comes back from its ids unchanged, runs of spaces included.
        remove_extra_whitespaces=normalisation != "identity",
        allow_whitespace_only_pieces=normalisation == "identity",
        character_coverage=coverage,
        num_threads=threads,
    )
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, MODEL)
        with open(path, "wb") as file:
            file.write(model)
        sentencepieces.SentencePiece(path, extra_ids=sentinels).save(directory)
    return encoder(directory)


def _train(lines: Iterator[str], *, size: int, sentinels: int, **options: Any) -> bytes:
    failures: list[ValueError] = []

    def watched() -> Iterator[str]:
        # The trainer would bury a source's error in its own.
        try:
            yield from lines
        except ValueError as error:
            failures.append(error)
            raise

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=watched(),
            model_writer=model,
            model_type="unigram",
            vocab_size=size - sentinels,
            byte_fallback=True,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            control_symbols=[encoders.MASK, encoders.DOC, *encoders.MODES.values()],
            max_sentence_length=2**20,
            shuffle_input_sentence=False,
            minloglevel=2,
            **options,
        )
    except (RuntimeError, OSError) as error:
        raise failures[0] if failures else ValueError(_explain(str(error), size, sentinels)) from None
    return model.getvalue()


def _explain(error: str, size: int, sentinels: int) -> str:
    if found := re.search(r"set it to a value <= (\d+)", error):
        most = int(found[1]) + sentinels
        return f"the text is too little for {size} ids, it fills {most}: ask for size={most} or less, or give more text"
    if found := re.search(r"required_chars\. \d+ vs (\d+)", error):
        least = int(found[1]) + sentinels
        return (
            f"{size} ids cannot hold the characters of the text, which need {least}: "
            f"ask for size={least} or more, or a smaller coverage"
        )
    return f"SentencePiece could not train {size} ids: {' '.join(error.split())[:200]}"


def _carded(directory: str, found: card.Card, extra_ids: int | None) -> encoders.Encoder:
    """Opens the vocabulary that a card describes, and holds it to the card."""
    if extra_ids not in (None, found.extra_ids):
        raise ValueError(
            f"{directory}/{card.FILE} says extra_ids={found.extra_ids}, not {extra_ids}: "
            "leave the argument out, or copy the .model file to a directory of its own"
        )
    path = os.path.join(directory, found.file or "")
    if found.kind == encoders.BYTES:
        opened = encoders.Bytes(extra_ids=found.extra_ids)
    elif found.kind == "sentencepiece":
        opened = sentencepieces.SentencePiece(path, extra_ids=found.extra_ids)
    elif found.kind == "tokenizers":
        opened = tokenizer_json.TokenizerJson(path, found=found.specials)
    else:
        raise ValueError(f"{directory}/{card.FILE} describes {found.kind!r} ids, which no vocabulary spells")
    if opened.fingerprint != found.fingerprint:
        raise ValueError(
            f"{path} has the fingerprint {opened.fingerprint[:12]} but {card.FILE} beside it says "
            f"{found.fingerprint[:12]}: the file was changed, restore it or make the vocabulary again"
        )
    return opened


def _opened(vocabulary: "seqio.Vocabulary | encoders.Encoder") -> encoders.Encoder:
    if isinstance(vocabulary, encoders.Encoder):
        return vocabulary
    from tasks import seqio_vocabulary

    return seqio_vocabulary.unwrap(vocabulary)

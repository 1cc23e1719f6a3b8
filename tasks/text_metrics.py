"""Scores of texts against references. Each takes (predicted, wanted) and returns figures by name.

A reference is a text, or several of which the best counts. F1, exact match and ROUGE are shares between 0 and 1; BLEU
and chrF go to 100, as sacreBLEU prints them.
"""

import collections
import re
import string
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

Wanted = Sequence[str] | Sequence[Sequence[str]]

_SQUAD_ARTICLES = r"\b(a|an|the)\b"
# MLQA's script (https://arxiv.org/abs/1910.07475), by language; the others have none.
_ARTICLES = {
    "en": _SQUAD_ARTICLES,
    "es": r"\b(un|una|unos|unas|el|la|los|las)\b",
    "vi": r"\b(của|là|cái|chiếc|những)\b",
    "de": r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
    "ar": r"\sال^|ال",
}
_UNSPACED = ("ja", "th", "zh")


def squad(predicted: Sequence[str], wanted: Wanted, *, language: str = "") -> dict[str, float]:
    """Returns 'f1' over words and 'exact_match' of answers, means over the questions.

    Args:
        predicted: answers.
        wanted: references.
        language: '' normalises as SQuAD v1.1's script does, which XQuAD uses for every language: lower case, no ASCII
            punctuation, no English articles. A language normalises as MLQA's script does: all Unicode punctuation
            (category P) and the articles of that language go; in zh, and here in ja and th, characters of
            unspaced scripts count as words.

    Raises:
        ValueError: there are none, or not as many of one as of the other.
    """

    def words(text: str) -> list[str]:
        return _normalised(text, language).split()

    pairs = _paired(predicted, wanted)
    f1 = [max(_f1(words(own), words(text)) for text in texts) for own, texts in pairs]
    exact = [any(words(own) == words(text) for text in texts) for own, texts in pairs]
    return {"f1": sum(f1) / len(f1), "exact_match": sum(exact) / len(exact)}


def bleu(predicted: Sequence[str], wanted: Wanted, *, tokenize: str = "13a") -> dict[str, float]:
    """Returns 'bleu' of the whole, by sacreBLEU (https://arxiv.org/abs/1804.08771).

    Args:
        predicted: translations.
        wanted: references.
        tokenize: sacreBLEU's tokeniser: '13a', 'intl', 'zh', 'char', ...

    Raises:
        ValueError: there are none, not as many of one as of the other, or no such tokeniser.
    """
    import sacrebleu

    if tokenize not in sacrebleu.BLEU.TOKENIZERS:
        raise ValueError(f"sacreBLEU has no tokeniser {tokenize!r}: choose from {', '.join(sacrebleu.BLEU.TOKENIZERS)}")
    streams = _streams(predicted, wanted)
    return {"bleu": float(sacrebleu.corpus_bleu(list(predicted), streams, tokenize=tokenize).score)}


def chrf(predicted: Sequence[str], wanted: Wanted, *, word_order: int = 0) -> dict[str, float]:
    """Returns 'chrf' of the whole, by sacreBLEU.

    Args:
        predicted: translations.
        wanted: references.
        word_order: 2 gives chrF++.

    Raises:
        ValueError: there are none, or not as many of one as of the other.
    """
    import sacrebleu

    streams = _streams(predicted, wanted)
    return {"chrf": float(sacrebleu.corpus_chrf(list(predicted), streams, word_order=word_order).score)}


def rouge(predicted: Sequence[str], wanted: Wanted, *, words: str = "latin") -> dict[str, float]:
    """Returns 'rouge1', 'rouge2' and 'rougeL', mean F1 over the texts, by Google's rouge_score without stemming.

    Args:
        predicted: summaries.
        wanted: references.
        words: 'latin', runs of a-z and 0-9, as the library has them; 'unicode', runs of letters, marks and digits of
            any script; 'characters', each of these by itself.

    Raises:
        ValueError: there are none, not as many of one as of the other, or no such words.
    """
    from rouge_score import rouge_scorer

    if words not in _WORDS:
        raise ValueError(f"ROUGE counts no {words!r} words: choose from {', '.join(_WORDS)}")
    kinds = ["rouge1", "rouge2", "rougeL"]
    pairs = _paired(predicted, wanted)
    scorer = rouge_scorer.RougeScorer(kinds, tokenizer=_Tokenizer(_WORDS[words]))
    scores = [scorer.score_multi(list(texts), own) for own, texts in pairs]
    return {kind: float(sum(score[kind].fmeasure for score in scores) / len(scores)) for kind in kinds}


class _Tokenizer:
    def __init__(self, words: Callable[[str], list[str]]):
        self.tokenize = words


def _scripts(text: str) -> list[str]:
    # Vowel signs are marks: \w alone would cut Indic words at them.
    kept = (char if unicodedata.category(char)[0] in "LMN" else " " for char in unicodedata.normalize("NFC", text))
    return "".join(kept).lower().split()


_WORDS: dict[str, Callable[[str], list[str]]] = {
    "latin": lambda text: re.findall("[a-z0-9]+", text.lower()),
    "unicode": _scripts,
    "characters": lambda text: list("".join(_scripts(text))),
}


def _normalised(text: str, language: str) -> str:
    text = text.lower()
    if not language:
        text = "".join(char for char in text if char not in string.punctuation)
        return re.sub(_SQUAD_ARTICLES, " ", text)
    text = "".join(c for c in text if c not in string.punctuation and unicodedata.category(c)[0] != "P")
    text = re.sub(_ARTICLES[language], " ", text) if language in _ARTICLES else text
    if language in _UNSPACED:
        text = "".join(f" {char} " if _unspaced(char) else char for char in text)
    return text


def _unspaced(char: str) -> bool:
    return unicodedata.name(char, "").startswith(("CJK UNIFIED", "CJK COMPAT", "HIRAGANA", "KATAKANA", "THAI"))


def _f1(own: Sequence[str], wanted: Sequence[str]) -> float:
    same = sum((collections.Counter(own) & collections.Counter(wanted)).values())
    return 2 * same / (len(own) + len(wanted)) if same else 0.0


def _streams(predicted: Sequence[str], wanted: Wanted) -> list[Any]:
    """Returns the first references, the second ones, ..., None where a text has fewer."""
    pairs = _paired(predicted, wanted)
    most = max(len(texts) for _, texts in pairs)
    return [[texts[number] if number < len(texts) else None for _, texts in pairs] for number in range(most)]


def _paired(predicted: Sequence[str], wanted: Wanted) -> list[tuple[str, Sequence[str]]]:
    if len(predicted) != len(wanted) or not len(wanted):
        raise ValueError(f"{len(predicted)} predicted texts for {len(wanted)} references: give as many, at least one")
    found = [(own, (texts,) if isinstance(texts, str) else texts) for own, texts in zip(predicted, wanted)]
    without = [number for number, (_, texts) in enumerate(found) if not len(texts)]
    if without:
        raise ValueError(f"text {without[0]} has no reference: give at least one")
    return found

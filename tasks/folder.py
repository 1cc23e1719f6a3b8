"""What a folder of downstream sets holds, told by the names of its files. Imports no TensorFlow.

    udpos/LANG/SPLIT.tsv                words with tags
    ner/SET/LANG/SPLIT.tsv              words with BIO tags
    slu/SET/LANG/SPLIT.tsv              '# intent = X', then words with BIO slots
    sib200/LANG/SPLIT.tsv               index, topic, sentence
    xcopa/LANG/SPLIT.jsonl              premise, question, choice1, choice2, label
    xquad/LANG.jsonl                    questions, each with its 'split'
    mt/ntrex/SPLIT.LANG.tsv             document, sentence; line by line translations of the other languages
    mt/tico19/en-LANG.SPLIT.tsv         id, English, translation
    mt/joshua/LANG-en.SPLIT.tsv         source, then English references
    mt/SET_en-LANG/SPLIT.tsv            English, translation
    summ/SET/LANG/SPLIT.jsonl           dialogue, summaries

All may be gzipped. The split 'dev' is called 'validation'; other splits keep their names.
"""

import functools
import glob
import os
import re
from collections.abc import Iterator

from tasks import dataset, formats, questions

_VALIDATION = "validation"
_ENGLISH = "en"


def datasets(root: str) -> tuple[dataset.Dataset, ...]:
    """Returns the sets of a folder, by family and language.

    Raises:
        ValueError: no such folder, or nothing in it that is laid out so.
    """
    root = os.path.expanduser(root)
    found = [*_words(root), *_classes(root), *_questions(root), *_translations(root), *_summaries(root)]
    if not found:
        raise ValueError(
            f"{root} holds no downstream sets laid out as {os.path.basename(__file__)} says: "
            "give the folder that holds udpos, ner, xquad, ..., or name your own files with downstream.Files"
        )
    return tuple(found)


def _words(root: str) -> Iterator[dataset.Dataset]:
    for (language,), splits in _found(root, r"udpos/([^/]+)/([^/]+)\.tsv"):
        sources = _sources(splits, "conll", language=language)
        yield dataset.Dataset(family="udpos", language=language, splits=sources, prompt="udpos", classes=dataset.UPOS)
    for (name, language), splits in _found(root, r"ner/([^/]+)/([^/]+)/([^/]+)\.tsv"):
        sources = _sources(splits, "conll", language=language)
        yield dataset.Dataset(family=f"ner.{name}", language=language, splits=sources, prompt="ner")
    for (name, language), splits in _found(root, r"slu/([^/]+)/([^/]+)/([^/]+)\.tsv"):
        for sort, how in (("intents", "intents"), ("slots", "conll")):
            sources = _sources(splits, how, language=language)
            yield dataset.Dataset(family=f"slu.{name}.{sort}", language=language, splits=sources, prompt=sort)


def _classes(root: str) -> Iterator[dataset.Dataset]:
    for (language,), splits in _found(root, r"sib200/([^/]+)/([^/]+)\.tsv"):
        sources = _sources(splits, "labels", columns=("_", "label", "text"))
        yield dataset.Dataset(
            family="sib200", language=language, splits=sources, prompt="topic", classes=dataset.TOPICS
        )
    for (language,), splits in _found(root, r"xcopa/([^/]+)/([^/]+)\.jsonl"):
        sources = _sources(splits, "labels", columns=("premise", "question", "choice1", "choice2", "label"))
        yield dataset.Dataset(
            family="xcopa", language=language, splits=sources, prompt="choice", classes=dataset.CHOICES
        )


def _questions(root: str) -> Iterator[dataset.Dataset]:
    for (), files in _found(root, r"xquad/([^/]+)\.jsonl"):
        for language, path in files.items():
            splits = {split: path for split in _named(path, os.path.getmtime(path))}
            sources = tuple(
                (_split(split), formats.Source(format="squad", files=(path,), only=split)) for split in splits
            )
            if sources:
                yield dataset.Dataset(family="xquad", language=language, splits=sources)


def _translations(root: str) -> Iterator[dataset.Dataset]:
    yield from _aligned(root)
    for (name, language), splits in _found(root, r"mt/(tico19)/en-([^/.]+)\.([^/]+)\.tsv"):
        yield _translation(name, _ENGLISH, language, _sources(splits, "pairs", columns=("_", "source", "target")))
        yield _translation(name, language, _ENGLISH, _sources(splits, "pairs", columns=("_", "target", "source")))
    for (name, language), splits in _found(root, r"mt/(joshua)/([^/.]+)-en\.([^/]+)\.tsv"):
        sources = _sources(splits, "pairs", columns=("source", "target", "target", "target", "target"))
        yield _translation(name, language, _ENGLISH, sources)
    for (name, language), splits in _found(root, r"mt/([^/]+)_en-([^/]+)/([^/]+)\.tsv"):
        yield _translation(name, _ENGLISH, language, _sources(splits, "pairs", columns=("source", "target")))
        yield _translation(name, language, _ENGLISH, _sources(splits, "pairs", columns=("target", "source")))


def _aligned(root: str) -> Iterator[dataset.Dataset]:
    sides: dict[str, dict[str, str]] = {}
    for (split,), files in _found(root, r"mt/ntrex/([^/.]+)\.([^/]+)\.tsv"):
        for language, path in files.items():
            sides.setdefault(language, {})[split] = path
    for language in sorted(sides):
        if language == _ENGLISH or _ENGLISH not in sides:
            continue
        for source, target in ((_ENGLISH, language), (language, _ENGLISH)):
            both = [split for split in sides[source] if split in sides[target]]
            sources = tuple(
                (
                    _split(split),
                    formats.Source(
                        format="aligned", files=(sides[source][split], sides[target][split]), columns=("_", "text")
                    ),
                )
                for split in both
            )
            if sources:
                yield _translation("ntrex", source, target, sources)


def _summaries(root: str) -> Iterator[dataset.Dataset]:
    for (name, language), splits in _found(root, r"summ/([^/]+)/([^/]+)/([^/]+)\.jsonl"):
        sources = _sources(splits, "pairs", columns=("source=dialogue", "target=summaries"))
        yield dataset.Dataset(family=f"summ.{name}", language=language, splits=sources, prompt="summarize")


def _translation(
    name: str, source: str, target: str, splits: tuple[tuple[str, formats.Source], ...]
) -> dataset.Dataset:
    return dataset.Dataset(family=f"mt.{name}", language=f"{source}_{target}", splits=splits, prompt=target)


def _sources(
    splits: dict[str, str], how: str, *, columns: tuple[str, ...] = (), language: str = _ENGLISH
) -> tuple[tuple[str, formats.Source], ...]:
    return tuple(
        (_split(name), formats.Source(format=how, files=(path,), columns=columns, language=language))
        for name, path in splits.items()
    )


def _split(name: str) -> str:
    return _VALIDATION if name == "dev" else name


def _found(root: str, pattern: str) -> Iterator[tuple[tuple[str, ...], dict[str, str]]]:
    """Yields the groups of a pattern but its last, and the path of each value that the last one has with them."""
    depth = pattern.count("/") - pattern.count("[^/")
    matched: dict[tuple[str, ...], dict[str, str]] = {}
    top = pattern.split("/")[0]
    for path in sorted(glob.glob(os.path.join(glob.escape(root), top, *["*"] * depth))):
        name = os.path.relpath(path, root).replace(os.sep, "/")
        if (match := re.fullmatch(rf"{pattern}(?:\.gz)?", name)) and os.path.isfile(path):
            *groups, last = match.groups()
            matched.setdefault(tuple(groups), {})[last] = path
    yield from matched.items()


@functools.lru_cache(maxsize=256)
def _named(path: str, changed: float) -> tuple[str, ...]:
    del changed  # a file that is written anew is read anew
    return questions.splits(path)

"""Text named on the command line, such as `en=wiki/en-*.jsonl.gz`, `de=tfds:wikipedia/20230601.de` or `cldr:2000`."""

import glob
import os
from collections.abc import Sequence

from tasks import question_source, sources

JSON = (".json", ".jsonl", ".json.gz", ".jsonl.gz")


def parse(words: Sequence[str], *, key: str = "text") -> dict[str, sources.Source]:
    """Each part's name and its source.

    Args:
      words: any of
        `NAME=FILES`: one part from text files or JSON lines (by their ending), plain or gzipped; FILES is a path, a
        glob, or several joined by commas.
        `NAME=tfds:DATASET[@SPLIT]`: one part from TensorFlow Datasets.
        `NAME=qa:FILES[@SPLIT]`: one part from questions with their contexts and answers, a document each.
        `FILES`: each file that the glob matches is a part, named by its file name up to the first dot.
        `cldr:COUNT`: the built-in corpus, a part of COUNT documents for each of its languages.
      key: the field of a JSON line, or the feature of a TFDS example, that holds the text.

    Raises:
      ValueError: two parts of one name, or a word that names no text.
    """
    parts: dict[str, sources.Source] = {}
    for word in words:
        for name, source in _parts(word, key).items():
            if name in parts:
                raise ValueError(
                    f"two parts are named {name!r}, the second by {word!r}: write NAME=FILES with another name"
                )
            parts[name] = source
    return parts


def _parts(word: str, key: str) -> dict[str, sources.Source]:
    if word.startswith("cldr:"):
        return _cldr(word.removeprefix("cldr:"))
    name, equals, what = word.partition("=")
    if equals and what.startswith("tfds:"):
        dataset, _, split = what.removeprefix("tfds:").partition("@")
        return {name: sources.Tfds(name=dataset, split=split or "train", key=key)}
    if equals and what.startswith("qa:"):
        files, _, split = what.removeprefix("qa:").partition("@")
        return {name: question_source.Questions(files=tuple(files.split(",")), split=split)}
    if equals:
        return {name: _files(tuple(what.split(",")), key)}
    files = sorted(glob.glob(word))
    if not files:
        raise ValueError(
            f"{word!r} matches no file: write a path or glob, NAME=FILES, NAME=tfds:DATASET, NAME=qa:FILES or "
            "cldr:COUNT"
        )
    return {os.path.basename(file).split(".")[0]: _files((file,), key) for file in files}


def _files(files: tuple[str, ...], key: str) -> sources.Source:
    if all(file.endswith(JSON) for file in files):
        return sources.JsonLines(files=files, key=key)
    return sources.Lines(files=files)


def _cldr(count: str) -> dict[str, sources.Source]:
    from tasks import cldr, generated

    if not count.isdigit():
        raise ValueError(f"cldr:{count} names no number of documents: write for instance cldr:2000")
    corpus = cldr.Cldr()
    return {
        language: generated.Generated(corpus=corpus, language=language, count=int(count))
        for language in corpus.languages
    }

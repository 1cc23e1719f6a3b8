"""Questions on a context: SQuAD's JSON, and JSON lines with one question each. Plain or gzipped.

SQuAD v1.1 (https://arxiv.org/abs/1606.05250): {'data': [{'paragraphs': [{'context', 'qas': [{'id', 'question',
'answers': [{'text', 'answer_start'}]}]}]}]}. A line has 'id', 'question', 'context', 'answers' and may have 'split'.
"""

import gzip
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

from tasks import files, records


def read(patterns: Sequence[str], *, only: str = "") -> Iterator[tuple[records.Question, str]]:
    """Yields the questions, and where each is, for messages.

    Args:
        patterns: paths or globs; names with '.jsonl' hold one question a line, others SQuAD's JSON.
        only: the lines with this 'split'; '' is all.

    Raises:
        ValueError: a file cannot be read, lacks a part, or an answer is not in the context where it should be.
    """
    for path in files.Files(tuple(patterns)).paths():
        if ".jsonl" in os.path.basename(path):
            found = _lines(path, only)
        else:
            found = _nested(path)
        for values, where in found:
            yield _question(values, where), where


def splits(path: str) -> tuple[str, ...]:
    """Returns the values of 'split' in the lines of a file, in order of appearance; () where there are none.

    Raises:
        ValueError: the file cannot be read.
    """
    return tuple(dict.fromkeys(value["split"] for value, _ in _lines(path, "") if "split" in value))


def problem(record: records.Question) -> str | None:
    """Returns what is wrong with a question's answers, None where they stand in the context."""
    if not record.answers:
        return f"question {record.id!r} has no answer"
    for answer, start in zip(record.answers, record.starts, strict=True):
        there = record.context[start : start + len(answer)] if start >= 0 else ""
        if not answer.strip() or there != answer:
            return f"answer {answer!r} of question {record.id!r} is not at character {start} of its context"
    return None


def _question(values: dict[str, Any], where: str) -> records.Question:
    try:
        record = records.Question(
            id=str(values["id"]),
            question=values["question"],
            context=values["context"],
            answers=tuple(answer["text"] for answer in values["answers"]),
            starts=tuple(int(answer["answer_start"]) for answer in values["answers"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"{where} is not a question with id, question, context and answers of text and answer_start ({reason})"
        ) from None
    if wrong := problem(record):
        raise ValueError(f"{where}: {wrong}; correct the file (offsets count characters)")
    return record


def _lines(path: str, only: str) -> Iterator[tuple[dict[str, Any], str]]:
    for line, where, _ in files.Files(path).lines():
        try:
            values = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{where} is not JSON ({error}): repair the line") from None
        if not isinstance(values, dict):
            raise ValueError(f"{where} is a JSON {type(values).__name__}, not an object: repair the line")
        if not only or values.get("split") == only:
            yield values, where


def _nested(path: str) -> Iterator[tuple[dict[str, Any], str]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8") as file:
            whole = json.load(file)
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path} is not a readable JSON file ({error}): repair it or fetch it again") from None
    try:
        for article in whole["data"]:
            for paragraph in article["paragraphs"]:
                for asked in paragraph["qas"]:
                    yield {"context": paragraph["context"], **asked}, f"{path}, question {asked.get('id')}"
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is not SQuAD's JSON, data/paragraphs/qas ({error}): give such a file, or .jsonl lines"
        ) from None

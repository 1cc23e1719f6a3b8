"""Questions as documents to pretrain on, and rates of blends put together."""

import json

import pytest

from tasks import corpora, question_source, rates


def questions(path, count=3):
    lines = [
        {
            "id": str(number),
            "split": "train" if number else "dev",
            "context": f"Berg {number} ist {number}00 Meter hoch.",
            "question": f"Wie hoch ist Berg {number}?",
            "answers": [{"text": f"{number}00 Meter", "answer_start": 11}],
        }
        for number in range(count)
    ]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return str(path)


def test_a_document_is_a_question_its_context_and_its_answer(tmp_path):
    path = questions(tmp_path / "de.jsonl")
    of = corpora.parse([f"qa=qa:{path}@train"])["qa"]
    assert list(of.documents()) == [
        f"question: Wie hoch ist Berg {n}? context: Berg {n} ist {n}00 Meter hoch. {n}00 Meter" for n in (1, 2)
    ]
    everything = corpora.parse([f"qa=qa:{path}"])["qa"]
    assert len(list(everything.documents())) == 3 and everything.digest() != of.digest()
    assert "split 'train'" in of.description and [share for _, share in of.stream()] == [1.0, 1.0]
    assert [list(shard.documents()) for shard in of.shards()] == [list(of.documents())]


def test_a_split_without_questions_is_refused(tmp_path):
    of = question_source.Questions(files=questions(tmp_path / "de.jsonl"), split="test")
    with pytest.raises(ValueError, match="split 'test': there is none; name another split or other files"):
        list(of.stream())


def test_blends_are_joined_by_their_shares_whatever_their_units():
    found = rates.joined(((("a", 30.0), ("b", 10.0)), (("b", 1.0), ("c", 3.0))), (0.8, 0.2))
    assert dict(found) == pytest.approx({"a": 0.6, "b": 0.2 + 0.05, "c": 0.15})
    assert sum(rate for _, rate in found) == pytest.approx(1)
    with pytest.raises(ValueError, match="2 blends have 1 shares: give each blend one"):
        rates.joined(((("a", 1.0),), (("b", 1.0),)), (1.0,))
    with pytest.raises(ValueError, match="not all positive: leave such out"):
        rates.joined(((("a", 1.0),), (("b", 0.0),)), (0.5, 0.5))

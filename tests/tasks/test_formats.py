"""Files as users have them, right and wrong: what is read, and the one line that names the file and its line."""

import gzip
import json

import pytest

from tasks import dataset, formats, records


@pytest.fixture
def write(tmp_path):
    """A function of (name, text) to the path of a file with it, gzipped where the name says so."""

    def make(name, text):
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return str(path)

    return make


def read(how, path, **options):
    return [record for record, _ in formats.Source(format=how, files=(path,), **options).read()]


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
def test_conll(write, name):
    path = write(name, "# a comment\nNew\t_\tB-LOC\nYork\t_\tI-LOC\n\n\n#\tO\nAdd O\n")
    assert [(r.words, r.tags) for r in read("conll", path)] == [
        (["New", "York"], ["B-LOC", "I-LOC"]),
        (["#", "Add"], ["O", "O"]),
    ]
    assert [r.text for r in read("conll", path, language="zh")] == ["NewYork", "#Add"]
    assert [where for _, where in formats.Source(format="conll", files=(path,)).read()] == [f"{path}:2", f"{path}:6"]


def test_conll_starts_a_sentence_with_each_file(write, tmp_path):
    write("a.txt", "-DOCSTART- -X- O\n\na O\n")
    write("b.txt", "b O")
    assert [r.words for r in read("conll", str(tmp_path / "*.txt"))] == [["a"], ["b"]]


def test_intents(write):
    path = write("a.tsv", "# intent = weather/find\nはい\tO\n雨\tB-x\n\n# intent = b\nx\tO\n")
    found = read("intents", path, language="ja")
    assert [(r.texts, r.label) for r in found] == [((("text", "はい雨"),), "weather/find"), ((("text", "x"),), "b")]
    path = write("b.tsv", "# intent = a\nx\tO\n\ny\tO\n")
    with pytest.raises(ValueError, match=r"b\.tsv:4 begins a sentence without a line '# intent"):
        read("intents", path)


def test_tables(write):
    path = write("a.tsv", "premise\thypothesis\tlabel\nP\tH\tneutral\n")
    (found,) = read("labels", path, columns=("premise", "hypothesis", "label"), skip=1)
    assert (found.asked, found.said) == ("premise: P hypothesis: H", "neutral")
    path = write("a.jsonl", json.dumps({"p": "P", "h": "H", "label": 2}) + "\n")
    (found,) = read("labels", path, columns=("premise=p", "hypothesis=h", "label"))
    assert found.texts == [("premise", "P"), ("hypothesis", "H")] and found.label == "2"


def test_pairs(write):
    (found,) = read("pairs", write("mtop.tsv", "wake me at 5\t[IN:ALARM at 5]\n"))
    assert (found.source, found.targets) == ("wake me at 5", ["[IN:ALARM at 5]"])
    path = write("b.tsv", "x\tone\ttwo\t\n")
    (found,) = read("pairs", path, columns=("source", "target", "target", "target"))
    assert found.references == ["one", "two"]
    path = write("c.jsonl.gz", json.dumps({"text": "long", "summaries": ["s", "t"]}))
    (found,) = read("pairs", path, columns=("source=text", "target=summaries"))
    assert (found.asked, found.references) == ("long", ["s", "t"])


def test_aligned_files(write):
    one, two = write("en.tsv", "d1\tYes\nd1\tNo\n"), write("de.tsv", "d1\tJa\nd1\tNein\n")
    source = formats.Source(format="aligned", files=(one, two), columns=("_", "text"))
    assert [(r.source, r.said) for r, _ in source.read()] == [("Yes", "Ja"), ("No", "Nein")]
    for text, message in (("d1\tJa\n", "has 2 lines but .*de.tsv 1"), ("d1\tJa\nd2\tNein\n", "en.tsv:2 is of 'd1'")):
        write("de.tsv", text)
        with pytest.raises(ValueError, match=message):
            list(source.read())


def squad(start, text="blue"):
    asked = {"id": "q", "question": "Which?", "answers": [{"text": text, "answer_start": start}]}
    return json.dumps({"data": [{"paragraphs": [{"context": "It is blue.", "qas": [asked]}]}]})


def test_squad(write):
    for name in ("a.json", "a.json.gz"):
        (found,) = read("squad", write(name, squad(6)))
        assert (found.id, found.answers, found.starts) == ("q", ("blue",), (6,))
    assert found.asked == "question: Which? context: It is blue." and found.said == "blue"
    line = {"id": 1, "split": "dev", "question": "Which?", "context": "It is blue."}
    line["answers"] = [{"text": "It", "answer_start": 0}]
    path = write("b.jsonl", json.dumps({**line, "split": "train"}) + "\n" + json.dumps(line))
    assert [r.id for r in read("squad", path)] == ["1", "1"] and len(read("squad", path, only="dev")) == 1


@pytest.mark.parametrize(
    ("how", "name", "text", "columns", "message"),
    [
        ("conll", "a.tsv", "a\tO\nb\n", (), r"a\.tsv:2 is not a word and its tag"),
        ("conll", "a.tsv", "a\tO\n\tO\n", (), r"a\.tsv:2 is not a word and its tag"),
        ("labels", "a.tsv", "a\tx\nb\n", (), r"a\.tsv:2 has 1 columns parted by tabs, not 2 \(text, label\)"),
        ("labels", "a.tsv", "\tx\n", (), r"a\.tsv:1 has nothing under 'text'"),
        ("labels", "a.jsonl", '{"text": "a"}', (), r"a\.jsonl:1 has no key 'label' but text"),
        ("labels", "a.jsonl", "[1]", (), r"a\.jsonl:1 is a JSON list"),
        ("labels", "a.jsonl", '{"text"', (), r"a\.jsonl:1 is not JSON"),
        ("pairs", "a.tsv", "a\t \n", (), r"a\.tsv:1 has no target"),
        ("squad", "a.json", squad(5), (), r"a\.json, question q: answer 'blue' of question 'q' is not at character 5"),
        ("squad", "a.json", squad(-5), (), r"is not at character -5 of its context"),
        ("squad", "a.json", '{"data": [{}]}', (), r"a\.json is not SQuAD's JSON"),
        ("squad", "a.json", "{", (), r"a\.json is not a readable JSON file"),
        ("squad", "a.jsonl", '{"id": 1, "context": "c"}', (), r"a\.jsonl:1 is not a question .*'question'"),
        ("squad", "a.jsonl", "{", (), r"a\.jsonl:1 is not JSON"),
    ],
)
def test_malformed_files_are_named_in_one_line(write, how, name, text, columns, message):
    path = write(name, text)
    with pytest.raises(ValueError, match=message) as raised:
        read(how, path, columns=columns)
    assert "\n" not in str(raised.value)


def test_what_cannot_be_a_source():
    for options, message in (
        ({"format": "xml"}, "format 'xml' is none of conll"),
        ({"format": "conll", "columns": ("word", "tag")}, "takes no columns"),
        ({"format": "labels", "columns": ("text", "_")}, "lack label"),
    ):
        with pytest.raises(ValueError, match=message):
            formats.Source(files=("x",), **options)


def test_inventories_cover_every_split_and_language(write):
    sources = {name: formats.Source(format="conll", files=(write(name, text),)) for name, text in (
        ("train", "a\tO\nb\tB-X\n"), ("test", "a\tB-A\n"), ("other", "a\tI-A\nb\t_\n"),
    )}  # fmt: skip
    one = dataset.Dataset(family="f", language="en", splits=(("train", sources["train"]), ("test", sources["test"])))
    two = dataset.Dataset(family="f", language="de", splits=(("test", sources["other"]),))
    assert dataset.classes([one, two]) == ("O", "B-A", "B-X", "I-A")
    assert len(one.read("test", dataset.classes([one, two]))) == 1
    with pytest.raises(ValueError, match=r"test:1: label 'B-A' is none of O, B-X"):
        one.read("test", ("O", "B-X"))
    with pytest.raises(ValueError, match="'f:en' has no split 'dev': choose from train, test"):
        one.read("dev")


def test_an_empty_file_is_refused(write):
    source = formats.Source(format="conll", files=(write("a.tsv", "\n\n"),))
    with pytest.raises(ValueError, match=r"a\.tsv holds no examples"):
        dataset.Dataset(family="f", language="en", splits=(("train", source),)).read("train")


def test_records_survive_json():
    for record in (
        records.Tagged(words=["a"], tags=["O"], spaced=False),
        records.Labelled(texts=[["text", "ü"]], label="x"),  # pyright: ignore
        records.Question(id="1", question="q", context="c", answers=["c"], starts=[0]),
        records.Pair(source="s", targets=["t"]),
    ):
        assert records.load(records.dump(record)) == record

import dataclasses
import gzip
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tasks import files, generated, holdout, sources

TEXT = ["one", "zwei  zwei", "", "   ", "три\tтри", "四"]
KEPT = ["one", "zwei  zwei", "три\tтри", "四"]


@dataclasses.dataclass(frozen=True)
class Counting:
    """A corpus of numbered documents."""

    seed: int = 0
    languages: tuple[str, ...] = ("en", "de")

    def documents(self, language: str, start: int, count: int, split: str) -> Iterator[str]:
        return (f"{split} {language} {number} {self.seed}" for number in range(start, start + count))


def lines(path, texts=TEXT, end="\n"):
    contents = end.join(texts).encode()
    path.write_bytes(gzip.compress(contents, mtime=0) if path.suffix == ".gz" else contents)
    return str(path)


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_are_documents_plain_or_gzipped(tmp_path, name, end):
    assert list(sources.Lines(files=lines(tmp_path / name, end=end)).documents()) == KEPT


def test_a_mark_at_the_head_of_a_file_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\ntwo")
    assert list(sources.Lines(files=str(tmp_path / "a.txt")).documents()) == ["one", "two"]


def test_globs_are_read_in_the_order_of_names(tmp_path):
    for name in ("b", "a", "c"):
        lines(tmp_path / f"{name}.txt", [name])
    source = sources.Lines(files=(str(tmp_path / "[bc].txt"), str(tmp_path / "a.txt")))
    assert list(source.documents()) == ["b", "c", "a"]
    assert [list(shard.documents()) for shard in source.shards()] == [["b"], ["c"], ["a"]]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_json_lines_by_key(tmp_path, name):
    path = lines(tmp_path / name, [json.dumps({"n": 1, "body": text}) for text in TEXT])
    assert list(sources.JsonLines(files=path, key="body").documents()) == KEPT


def test_shares_grow_to_one(tmp_path):
    for name in ("a.txt.gz", "b.txt"):
        lines(tmp_path / name, [str(number) * 50 for number in range(200)])
    shares = [share for _, share in sources.Lines(files=str(tmp_path / "*")).stream()]
    assert shares == sorted(shares)
    assert 0 < shares[0] <= shares[-1] == 1.0


def test_slices_hold_every_document_once(tmp_path):
    source = sources.Lines(files=lines(tmp_path / "a.txt", [str(number) for number in range(500)]))
    slices = list(source.slices(50))
    assert len(slices) > 10
    assert [text for part in slices for text in part.documents()] == list(source.documents())


def test_the_digest_is_of_names_and_contents_not_of_places(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    first = sources.Lines(files=lines(tmp_path / "x" / "a.txt"))
    moved = sources.Lines(files=lines(tmp_path / "y" / "a.txt"))
    assert first != moved
    assert first.digest() == moved.digest()
    assert first.digest() != sources.JsonLines(files=first.files).digest()
    before = first.digest()
    lines(tmp_path / "x" / "a.txt", [*TEXT, "more"])
    assert first.digest() != before
    (tmp_path / "y" / "a.txt").rename(tmp_path / "y" / "b.txt")
    assert sources.Lines(files=str(tmp_path / "y" / "b.txt")).digest() != before


def refusal(source):
    with pytest.raises(ValueError) as caught:
        list(source.documents())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_pattern_without_files(tmp_path):
    assert "matches no file" in refusal(sources.Lines(files=str(tmp_path / "*.txt")))
    assert "matches no file" in refusal(sources.Lines(files=str(tmp_path)))


def test_a_cut_off_gzip_file(tmp_path):
    path = tmp_path / "a.txt.gz"
    lines(path, [str(number) for number in range(3000)])
    path.write_bytes(path.read_bytes()[:-200])
    assert "damaged gzip file after line" in refusal(sources.Lines(files=str(path)))
    path.write_bytes(b"not gzip at all")
    assert "damaged gzip file after line 0" in refusal(sources.Lines(files=str(path)))


def test_bytes_that_are_not_utf8(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"good\nb\xe4d\n")
    assert "a.txt:2 is not UTF-8" in refusal(sources.Lines(files=str(tmp_path / "a.txt")))


def test_a_line_without_end_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LONGEST", 100)
    path = lines(tmp_path / "a.txt", ["short", "x" * 101])
    assert "a.txt:2 is longer than" in refusal(sources.Lines(files=path))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "a.jsonl:2 is not JSON"),
        ("[1]", "has no text under the key 'text' but a list"),
        ('{"title": "x"}', "has no text under the key 'text' but title: name another key"),
        ('{"text": 3}', "has no text under the key 'text'"),
        ('{"text": "\\ud83d"}', "half of a surrogate pair"),
    ],
)
def test_json_lines_that_hold_no_text(tmp_path, line, said):
    path = lines(tmp_path / "a.jsonl", ['{"text": "fine"}', line])
    assert said in refusal(sources.JsonLines(files=path))


def test_a_generated_source_is_read_by_ranges():
    source = generated.Generated(corpus=Counting(), language="de", count=50)
    slices = list(source.slices(512 * 20))
    assert [part.share for part in slices] == [0.4, 0.8, 1.0]
    assert [text for part in slices for text in part.documents()] == list(source.documents())
    assert not any(isinstance(part, sources.Texts) for part in slices)


def test_a_generated_source_is_its_parameters():
    source = generated.Generated(corpus=Counting(), language="de", count=50)
    assert source.digest() == generated.Generated(corpus=Counting(), language="de", count=50).digest()
    for change in ({"language": "en"}, {"count": 51}, {"split": "validation"}, {"corpus": Counting(seed=1)}):
        assert dataclasses.replace(source, **change).digest() != source.digest()
    with pytest.raises(ValueError, match="choose from en, de"):
        generated.Generated(corpus=Counting(), language="xx", count=1)
    with pytest.raises(ValueError, match="at least one"):
        generated.Generated(corpus=Counting(), language="en", count=0)


def test_what_is_held_out_hangs_on_the_text_alone():
    held = holdout.Holdout(share=0.25)
    texts = [f"document {number}" for number in range(4000)]
    chosen = [text for text in texts if held.holds(text)]
    assert 880 < len(chosen) < 1120
    assert [text for text in reversed(texts) if held.holds(text)] == chosen[::-1]
    assert set(chosen) <= {text for text in texts if holdout.Holdout(share=0.3).holds(text)}
    assert not any(holdout.Holdout().holds(text) for text in texts)
    for share in (1.0, -0.1):
        with pytest.raises(ValueError, match="below 1"):
            holdout.Holdout(share=share)


def test_real_text_is_read(real_text):
    source = sources.Lines(files=str(real_text / "te.txt.gz"))
    texts = list(source.documents())
    assert len(texts) == 4124
    assert all(text.strip() for text in texts)


def test_sources_import_no_tensorflow():
    names = "{'tensorflow', 'seqio', 'jax'}"
    code = f"import sys; from tasks import sources, generated, vocabulary; print({names} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"

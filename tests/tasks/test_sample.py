import pytest

from tasks import sample, sources


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    root = tmp_path_factory.mktemp("text")
    for name, count in (("large", 3000), ("small", 300)):
        (root / f"{name}.txt").write_text("\n".join(f"{name} number {number:04d}." for number in range(count)))
    return {name: sources.Lines(files=str(root / f"{name}.txt")) for name in ("large", "small")}


def test_the_sample_follows_the_temperature(corpora):
    found = {}
    for alpha in (0.0, 0.5, 1.0):
        chosen = sample.Sample(corpora=corpora, sentences=1000, alpha=alpha)
        counts = chosen.count()
        quotas = chosen.quotas(counts)
        drawn = list(chosen.draw(counts))
        assert len(drawn) == sum(quotas.values())
        assert abs(len(drawn) - 1000) <= 1
        found[alpha] = quotas["small"]
    assert found[0.0] == 500
    assert 200 < found[0.5] < 300
    assert 80 < found[1.0] < 110


def test_a_corpus_that_is_too_small_is_repeated_evenly(corpora):
    chosen = sample.Sample(corpora=corpora, sentences=2000, alpha=0.0)
    drawn = list(chosen.draw(chosen.count()))
    small = set(corpora["small"].documents())
    times = [drawn.count(text) for text in small]
    assert sum(times) == 1000
    assert set(times) == {3, 4}


def test_sentences_are_bounded_and_lose_no_text():
    texts = ["a b. " * 400, "長" * 2000, "word " * 500, "eins. zwei! drei? 四。五", "x"]
    for text in texts:
        found = list(sample.split(text))
        assert max(map(len, found)) <= sample.LONGEST
        assert "".join(found).replace(" ", "") == text.replace(" ", "")
    assert len(list(sample.split(texts[0]))) == 4

import itertools

import numpy as np
import pytest

from tasks import alignment, cldr, cldr_examples, encoder, generated, vocabulary


@pytest.fixture(scope="module", params=["identity", "nfkc", "bytes"])
def spell(request, tmp_path_factory):
    if request.param == "bytes":
        return encoder.Bytes()
    corpus = cldr.Cldr(languages=("en", "ja", "hi"))
    parts = {code: generated.Generated(corpus=corpus, language=code, count=60) for code in corpus.languages}
    directory = tmp_path_factory.mktemp(request.param) / "v"
    # Few pieces: many characters of these texts fall back on bytes.
    return vocabulary.train(
        parts, directory, size=900, sentinels=0, sentences=400, coverage=0.98, normalisation=request.param
    )


def test_ids_and_first_subwords(spell):
    cut, words = 0, 0
    for language, index in itertools.product(("en", "ja", "hi", "te"), range(12)):
        found = cldr_examples.label(language, index, split="train")
        ids, positions = alignment.first_subwords(spell, found["text"], found["tokens"])
        np.testing.assert_array_equal(ids, spell.encode([found["text"]])[0])
        known = [position for position in positions if position >= 0]
        assert known == sorted(set(known)) and all(position < len(ids) for position in known)
        spelt = spell.decode(ids.tolist())
        for position, token in zip(positions, found["tokens"]):
            words += 1
            if position < 0:
                cut += 1
                continue
            surface = spell.decode(spell.encode([token])[0].tolist()).strip()
            head = spell.decode(ids[:position].tolist()).rstrip("\ufffd")
            assert spelt[len(head) :].lstrip().startswith(surface), (token, head)
    assert cut < 0.2 * words


def test_every_word_begins_with_its_first_byte():
    ids, positions = alignment.first_subwords(encoder.Bytes(), "2024年3月 ok", ["2024", "年", "3", "月", "ok"])
    assert positions == [0, 4, 7, 8, 12]
    assert len(ids) == 14


def test_labels_are_ignored_elsewhere():
    ids, labels = alignment.labels(encoder.Bytes(), "5 kg.", ["5", "kg", "."], [3, 1, 0])
    assert labels.tolist() == [3, alignment.IGNORED, 1, alignment.IGNORED, 0] and len(ids) == 5
    assert labels.dtype == ids.dtype == np.int32


def test_refuses_words_that_are_not_there():
    with pytest.raises(ValueError, match="word 'lb' is not in the rest of '5 kg'; give the words"):
        alignment.first_subwords(encoder.Bytes(), "5 kg", ["5", "lb"])

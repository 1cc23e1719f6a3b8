"""Where words and characters begin in ids, all at once: equal to tasks/alignment.py's search word by word."""

import unicodedata

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from tasks import alignment, characters, cldr, cldr_examples, encoder, generated, tokenizer_json, vocabulary

ALPHABET = pre_tokenizers.ByteLevel.alphabet()
LANGUAGES = ("en", "ja", "hi", "te", "ar")


@pytest.fixture(scope="module", params=["identity", "nfkc", "bytes", "json"])
def spell(request, tmp_path_factory):
    if request.param == "bytes":
        return encoder.Bytes()
    corpus = cldr.Cldr(languages=("en", "ja", "hi"))
    parts = {code: generated.Generated(corpus=corpus, language=code, count=60) for code in corpus.languages}
    directory = tmp_path_factory.mktemp(request.param)
    if request.param == "json":
        made = tokenizers.Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=600, special_tokens=["<pad>", "</s>"], initial_alphabet=ALPHABET, show_progress=False
        )
        made.train_from_iterator((text for part in parts.values() for text in part.documents()), trainer)
        made.save(str(directory / "tokenizer.json"))
        return tokenizer_json.TokenizerJson(str(directory / "tokenizer.json"))
    # Few pieces: many characters of these texts fall back on bytes.
    return vocabulary.train(
        parts, directory / "v", size=900, sentinels=9, sentences=400, coverage=0.98, normalisation=request.param
    )


@pytest.fixture(scope="module")
def sentences():
    return [cldr_examples.label(code, index, split="train")["tokens"] for code in LANGUAGES for index in range(8)]


def plain(text):
    return "".join(unicodedata.normalize("NFKC", text).split())


def test_ids_and_their_characters(spell, sentences):
    texts = ["  two  spaces", "x <extra_id_3> y", "日本 世界鱻", *(" ".join(words) for words in sentences)]
    for text, (ids, places) in zip(texts, characters.spelt(spell, texts)):
        np.testing.assert_array_equal(ids, spell.encode([text])[0])
        assert places.shape == (len(ids), 2) and (np.diff(places, axis=0) >= 0).all() and places[-1, 1] == len(text)
        if not isinstance(spell, encoder.Bytes):
            # What ids spell up to a border between characters is the text up to there.
            for count in np.flatnonzero(places[:-1, 1] == places[1:, 0]) + 1:
                if places[count - 1, 0] < places[count - 1, 1]:
                    assert plain(spell.decode(ids[:count].tolist())) == plain(text[: places[count - 1, 1]])
    assert characters.spelt(spell, []) == []


def test_words_are_where_the_search_finds_them(spell, sentences):
    found = alignment.words(spell, sentences, spaced=True)
    for words, (ids, positions) in zip(sentences, found):
        wanted, places = alignment.first_subwords(spell, " ".join(words), words)
        np.testing.assert_array_equal(ids, wanted)
        assert positions.tolist() == places
    assert sum(len(words) for words in sentences) > 200


def test_without_spaces_every_word_has_a_position(spell):
    sentences = [["今", "日", "は", "雨"], [], ["2024", "年"]]
    found = alignment.words(spell, sentences, spaced=False)
    for words, (ids, positions) in zip(sentences, found):
        assert len(set(positions.tolist())) == len(words) and (positions >= 0).all()
        assert "".join(spell.decode(ids.tolist()).split()) == "".join(words)
        for word, start, stop in zip(words, positions, [*positions[1:], len(ids)]):
            assert spell.decode(ids[start:stop].tolist()).strip() == word


def test_a_word_without_a_trace_has_no_position(tmp_path):
    text = [["a", "\u00ad", "b"]]
    assert alignment.words(encoder.Bytes(), text, spaced=True)[0][1].tolist() == [0, 2, 5]
    made = tokenizers.Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "a": 2, "b": 3}, unk_token="<pad>"))
    made.normalizer = tokenizers.normalizers.Replace("\u00ad", "")
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    spell = tokenizer_json.TokenizerJson(str(tmp_path / "tokenizer.json"))
    ((ids, positions),) = alignment.words(spell, text, spaced=True)
    assert ids.tolist() == [2, 3] and positions.tolist() == [0, -1, 1]

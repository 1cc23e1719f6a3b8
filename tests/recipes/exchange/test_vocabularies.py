"""A published tokenizer becomes a vocabulary with the ids of its configuration, and goes back as the same file."""

import json

import pytest
import tokenizers

from recipes.exchange import vocabularies
from tasks import sources, vocabulary

LINES = ["the quick brown fox jumps over the lazy dog", "pack my box with five dozen liquor jugs"] * 20


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabulary")
    text = folder / "text.txt"
    text.write_text("\n".join(LINES))
    vocabulary.train({"en": sources.Lines(files=str(text))}, folder / "own", size=400)
    return folder / "own" / "vocabulary.model"


def test_a_sentencepiece_model_gets_its_sentinels(trained, tmp_path):
    (tmp_path / "spiece.model").write_bytes(trained.read_bytes())
    found = vocabularies.find(str(tmp_path), {"vocab_size": 512, "pad_token_id": 0, "eos_token_id": 1})
    assert found is not None and found.specials.size == 400
    assert found.specials.sentinels[:2] == (399, 398) and len(found.specials.sentinels) == 100
    found.save(tmp_path / "vocabulary")
    (tmp_path / "out").mkdir()
    assert vocabularies.save(str(tmp_path / "vocabulary"), str(tmp_path / "out")) == found.specials
    assert (tmp_path / "out" / "spiece.model").read_bytes() == trained.read_bytes()
    again = vocabularies.find(str(tmp_path / "out"), {})
    assert again is not None and again.fingerprint == found.fingerprint


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"eos_token_id": 7}, "config.json has eos_token_id = 7 and the tokenizer 1"),
        ({"vocab_size": 300}, "the tokenizer has 400 ids and config.json vocab_size = 300"),
    ],
)
def test_ids_that_differ_are_refused(trained, tmp_path, config, message):
    (tmp_path / "spiece.model").write_bytes(trained.read_bytes())
    with pytest.raises(ValueError, match=message):
        vocabularies.find(str(tmp_path), config)


def test_a_tokenizer_without_pad_is_filled_with_the_end_of_text(tmp_path):
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"the": 0, "fox": 1, "END": 2, "?": 3}, unk_token="?"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    found = vocabularies.find(str(tmp_path), {"vocab_size": 4, "eos_token_id": 2, "pad_token_id": None})
    assert found is not None and (found.specials.pad, found.specials.eos) == (2, 2)
    assert found.encode(["the fox"])[0].tolist() == [0, 1]
    found.save(tmp_path / "vocabulary")
    (tmp_path / "out").mkdir()
    vocabularies.save(str(tmp_path / "vocabulary"), str(tmp_path / "out"))
    written = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert written["eos_token"] == written["pad_token"] == "END"


def test_no_tokenizer_is_no_mistake(tmp_path):
    assert vocabularies.find(str(tmp_path), {}) is None

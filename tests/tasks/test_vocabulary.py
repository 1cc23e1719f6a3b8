import json
import random
import shutil

import numpy as np
import pytest
import seqio
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from tasks import card, encoder, sources, vocabulary

ODD = [
    "Grüße,  an alle!\n",
    "naïve — [MASK] [R] </s> text",
    " lead",
    "\ttab",
    "日本語 と emoji 🎉",
    "a <extra_id_3> b",
    "",
]


def words(seed, letters, count):
    rng = random.Random(seed)
    lexicon = ["".join(rng.choices(letters, k=rng.randint(2, 7))) for _ in range(400)]
    return [" ".join(rng.choices(lexicon, k=12)) + "." for _ in range(count)]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    root = tmp_path_factory.mktemp("text")
    for name, letters, count in (("large", "abcdefghij", 3000), ("small", "uvwxyzäöü", 300)):
        (root / f"{name}.txt").write_text("\n".join(words(name, letters, count)))
    return {name: sources.Lines(files=str(root / f"{name}.txt")) for name in ("large", "small")}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, corpora):
    root = tmp_path_factory.mktemp("trained")
    vocabulary.train(corpora, root / "v", size=700, sentinels=20, sentences=1500, threads=2)
    return root / "v"


def tokenizer(path, *, special=("<pad>", "</s>", "<unk>", "<mask>")):
    made = tokenizers.Tokenizer(models.BPE(unk_token="<unk>" if "<unk>" in special else None))
    made.pre_tokenizer = pre_tokenizers.ByteLevel()  # pyright: ignore
    made.decoder = decoders.ByteLevel()  # pyright: ignore
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=list(special), show_progress=False)  # pyright: ignore
    made.train_from_iterator(words(0, "abcdefghij", 300), trainer)
    made.save(str(path))
    return path


def same_ids(path, texts, **options):
    """Checks the TensorFlow and the plain side against each other, and returns the ids."""
    loaded, plain = vocabulary.load(path, **options), vocabulary.encoder(path, **options)
    assert isinstance(loaded, seqio.Vocabulary)
    assert not isinstance(plain, seqio.Vocabulary)
    assert loaded.vocab_size == plain.specials.size
    assert vocabulary.specials(loaded) == plain.specials
    assert vocabulary.fingerprint(loaded) == plain.fingerprint
    found = plain.encode(texts)
    for text, ids in zip(texts, found, strict=True):
        assert ids.dtype == np.int32
        assert list(loaded.encode(text)) == ids.tolist()
        assert loaded.encode_tf(text).numpy().tolist() == ids.tolist()
    return found


def test_layout_of_a_trained_vocabulary(trained):
    found = vocabulary.specials(vocabulary.load(trained))
    assert (found.size, found.pad, found.eos, found.unk, found.start) == (700, 0, 1, 2, 0)
    assert (found.mask, found.doc, dict(found.modes)) == (3, 4, {"R": 5, "S": 6, "X": 7})
    # T5's convention: <extra_id_0> is the last id, and they are used downwards.
    assert found.sentinels == tuple(range(699, 679, -1))
    opened = vocabulary.encoder(trained)
    assert [opened.piece(i) for i in (0, 1, 2, 3, 7, 699)] == [
        "<pad>",
        "</s>",
        "<unk>",
        "[MASK]",
        "[X]",
        "<extra_id_0>",
    ]


def test_seqio_and_plain_spell_alike(trained, corpora):
    texts = [*ODD, *list(corpora["small"].documents())[:50]]
    same_ids(trained, texts)
    same_ids("bytes", texts)


def test_text_comes_back_unchanged_without_normalisation(trained):
    opened = vocabulary.encoder(trained)
    for text, ids in zip(ODD, opened.encode(ODD), strict=True):
        assert opened.decode(ids) == text
        assert opened.specials.unk not in ids


def test_text_cannot_spell_what_only_objectives_may_write(trained):
    opened = vocabulary.encoder(trained)
    named = opened.specials.named()
    written = {i for name, i in named.items() if not name.startswith("sentinel")}
    for ids in opened.encode([" [MASK] [DOC] [R] </s> <pad> <unk> "]):
        assert not written & set(ids.tolist())


def test_nfkc_folds_and_identity_does_not(tmp_path, trained, corpora):
    folded = vocabulary.train(
        corpora, tmp_path / "v", size=700, sentinels=20, sentences=1500, normalisation="nfkc", threads=2
    )
    assert folded.decode(folded.encode(["ａｂ  ﬁ"])[0]) == "ab fi"
    assert folded.fingerprint != vocabulary.encoder(trained).fingerprint


def test_training_again_gives_the_same_file(tmp_path, trained, corpora):
    for seed, same in ((0, True), (1, False)):
        vocabulary.train(corpora, tmp_path / str(seed), size=700, sentinels=20, sentences=1500, threads=2, seed=seed)
        found = (tmp_path / str(seed) / vocabulary.MODEL).read_bytes()
        assert (found == (trained / vocabulary.MODEL).read_bytes()) == same


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": 290}, "290 ids cannot hold the characters of the text, which need 3"),
        ({"size": 60_000}, "the text is too little for 60000 ids"),
        ({"size": 700, "normalisation": "nfc"}, "none of identity, nfkc"),
        ({"size": 700, "alpha": 2.0}, "alpha 2.0"),
        ({"size": 700, "sentences": 0}, "at least one"),
        ({"size": 700, "corpora": {}}, "at least one corpus"),
    ],
)
def test_what_cannot_be_trained_is_one_line_and_writes_nothing(tmp_path, corpora, change, said):
    with pytest.raises(ValueError, match=said) as caught:
        vocabulary.train(directory=tmp_path / "v", **{"corpora": corpora, "sentinels": 20, "threads": 2, **change})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "v").exists()


def test_the_advised_size_works(tmp_path, corpora):
    with pytest.raises(ValueError) as caught:
        vocabulary.train(corpora, tmp_path / "v", size=60_000, sentences=500, threads=2)
    size = int(str(caught.value).split("size=")[1].split()[0])
    assert vocabulary.train(corpora, tmp_path / "v", size=size, sentences=500, threads=2).specials.size == size


def test_an_empty_corpus_and_one_that_breaks_are_named(tmp_path, corpora):
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(ValueError, match="corpus 'none' .* is empty"):
        empty = sources.Lines(files=str(tmp_path / "empty.txt"))
        vocabulary.train({**corpora, "none": empty}, tmp_path / "v", size=700)


def test_a_vocabulary_is_not_overwritten(trained, corpora):
    before = (trained / vocabulary.MODEL).read_bytes()
    with pytest.raises(ValueError, match="holds a vocabulary already"):
        vocabulary.train(corpora, trained, size=600, sentences=500)
    assert (trained / vocabulary.MODEL).read_bytes() == before


def test_a_model_alone_has_the_sentinels_it_is_given(tmp_path, trained):
    path = tmp_path / "alone.model"
    shutil.copy(trained / vocabulary.MODEL, path)
    assert vocabulary.encoder(path).specials.sentinels == ()
    assert vocabulary.encoder(path, extra_ids=20).fingerprint == vocabulary.encoder(trained).fingerprint
    same_ids(path, ODD, extra_ids=5)


def test_paths_to_the_directory_the_card_and_the_model_are_one(trained):
    found = {
        vocabulary.encoder(path).fingerprint for path in (trained, trained / card.FILE, trained / vocabulary.MODEL)
    }
    assert len(found) == 1


def test_the_fingerprint_forgets_where_a_model_was_trained(tmp_path, trained):
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString((trained / vocabulary.MODEL).read_bytes())
    model.trainer_spec.input.append("/elsewhere")
    (tmp_path / "a.model").write_bytes(model.SerializeToString())
    opened = vocabulary.encoder(tmp_path / "a.model", extra_ids=20)
    assert opened.fingerprint == vocabulary.encoder(trained).fingerprint
    model.pieces[500].score -= 1
    (tmp_path / "b.model").write_bytes(model.SerializeToString())
    assert vocabulary.encoder(tmp_path / "b.model", extra_ids=20).fingerprint != opened.fingerprint


def test_bytes_have_every_special():
    found = vocabulary.encoder("bytes").specials
    assert (found.size, found.mask, found.doc, dict(found.modes)) == (384, 259, 260, {"R": 261, "S": 262, "X": 263})
    assert found.sentinels == tuple(range(383, 283, -1))
    assert vocabulary.specials(seqio.ByteVocabulary()).sentinels == ()
    assert vocabulary.encoder("bytes").decode([*vocabulary.encoder("bytes").encode(["ä"])[0], 259, 1]) == "ä"
    assert encoder.Bytes().piece(383) == "<extra_id_0>"


def test_a_tokenizers_file(tmp_path):
    path = tokenizer(tmp_path / "t.json", special=("<pad>", "</s>", "<unk>", "<mask>", "<extra_id_0>", "<extra_id_1>"))
    same_ids(path, ODD)
    found = vocabulary.encoder(path).specials
    assert (found.pad, found.eos, found.unk, found.mask, found.doc) == (0, 1, 2, 3, None)
    assert found.sentinels == (4, 5)
    loaded = vocabulary.load(path)
    assert loaded.decode(loaded.encode("abc def ")) == " abc def "
    assert loaded == vocabulary.load(path)


def test_the_configuration_beside_a_tokenizers_file_comes_before_usual_names(tmp_path):
    path = tokenizer(tmp_path / "tokenizer.json", special=("<pad>", "</s>", "<unk>", "<mask>", "<end>", "<hide>"))
    (tmp_path / "special_tokens_map.json").write_text(
        json.dumps({"eos_token": "<end>", "mask_token": {"content": "<hide>"}})
    )
    found = vocabulary.encoder(path).specials
    assert (found.eos, found.mask) == (4, 5)
    assert vocabulary.encoder(path, names={"mask": "<mask>", "start": "</s>"}).specials.mask == 3
    assert vocabulary.encoder(path, names={"mask": "<mask>"}).fingerprint != vocabulary.encoder(path).fingerprint


def test_padding_with_the_end_of_text_as_gpt2_does(tmp_path):
    path = tokenizer(tmp_path / "t.json", special=("<|endoftext|>",))
    with pytest.raises(ValueError, match="has no pad piece") as caught:
        vocabulary.encoder(path)
    assert "names={'pad': PIECE}" in str(caught.value)
    assert vocabulary.load(path, names={"pad": "<|endoftext|>"}).pad_id == 0


def test_a_saved_tokenizers_file_keeps_its_names(tmp_path):
    path = tokenizer(tmp_path / "t.json", special=("<|endoftext|>",))
    opened = vocabulary.encoder(path, names={"pad": "<|endoftext|>"})
    opened.save(tmp_path / "saved")
    again = vocabulary.encoder(tmp_path / "saved")
    assert again.card == opened.card
    assert again.path != opened.path


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("no/such.model", "does not exist"),
        ("no/such.json", "does not exist"),
        ("no/such", "is no vocabulary"),
        ("text.model", "not a SentencePiece model"),
        ("text.json", "not a `tokenizers` file"),
    ],
)
def test_files_that_are_no_vocabulary(tmp_path, monkeypatch, path, said):
    monkeypatch.chdir(tmp_path)
    for name in ("text.model", "text.json"):
        (tmp_path / name).write_text("hello")
    with pytest.raises(ValueError, match=said) as caught:
        vocabulary.encoder(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_was_changed_under_its_card_is_refused(tmp_path, trained, corpora):
    shutil.copytree(trained, tmp_path / "v")
    with pytest.raises(ValueError, match="says extra_ids=20, not 7"):
        vocabulary.encoder(tmp_path / "v", extra_ids=7)
    vocabulary.train(corpora, tmp_path / "w", size=650, sentinels=20, sentences=500, threads=2)
    shutil.copy(tmp_path / "w" / vocabulary.MODEL, tmp_path / "v" / vocabulary.MODEL)
    with pytest.raises(ValueError, match="the file was changed"):
        vocabulary.encoder(tmp_path / "v")


def test_a_vocabulary_without_known_specials_is_refused():
    with pytest.raises(ValueError, match="PassThroughVocabulary are not known"):
        vocabulary.specials(seqio.PassThroughVocabulary(size=5))

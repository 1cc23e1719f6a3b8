"""Downstream sets as SeqIO tasks: a folder of them, and own files."""

import json
import pathlib
import subprocess
import sys

import pytest
import seqio

from tasks import alignment, downstream, examples, provider

pytestmark = pytest.mark.usefixtures("registries")

EOS = 1
SPELL = seqio.ByteVocabulary(extra_ids=0)


def tree(root):
    """Writes a folder of sets."""
    question = {"question": "Which?", "context": "It is blue today.", "answers": [{"text": "blue", "answer_start": 6}]}
    files = {
        "udpos/en/train.tsv": "A\tDET\ncat\tNOUN\n\nIt\tPRON\nsat\tVERB\n",
        "udpos/en/test.tsv": "Cats\tNOUN\n",
        "udpos/ja/train.tsv": "雨\tNOUN\nだ\tAUX\n",
        "ner/toy/en/train.tsv": "Ann\tB-PER\nran\tO\n",
        "ner/toy/de/test.tsv": "Bonn\tB-LOC\n",
        "slu/toy/en/dev.tsv": "# intent = sing\nsing\tO\n\n# intent = play\nplay\tO\nit\tB-what\n",
        "sib200/en/train.tsv": "7\ttravel\tGo there.\n",
        "xcopa/it/dev.jsonl": json.dumps(
            {"premise": "P", "question": "cause", "choice1": "A", "choice2": "B", "label": 1, "idx": 0}
        ),
        "xquad/en.jsonl": "\n".join(
            json.dumps({"id": str(number), "split": split, **question}) for number, split in enumerate(("train", "dev"))
        ),
        "mt/ntrex/dev.en.tsv": "d\tYes\n",
        "mt/ntrex/dev.de.tsv": "d\tJa\n",
        "mt/ntrex/dev.fr.tsv": "d\tOui\n",
        "mt/tico19/en-hi.test.tsv": "1\tone\tएक\n",
        "mt/joshua/hi-en.devtest.tsv": "एक\tone\t1\ta\tan\n",
        "mt/tatoeba_en-mr/train.tsv": "Stop!\tथांबा!\n",
        "summ/toy/en/train.jsonl": json.dumps({"id": "a", "dialogue": "Long.", "summaries": ["s", "t"]}),
        "notes/README.txt": "not a set",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return str(root)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = downstream.Folder(root=tree(tmp_path_factory.mktemp("sets")), vocabulary="bytes", prefix="toy", stride=8)
    found.register()
    return found


def load(name, split, **lengths):
    found = seqio.get_mixture_or_task(name)
    return list(found.get_dataset(lengths or None, split, shuffle=False).as_numpy_iterator())


def text(ids):
    return SPELL.decode([int(i) for i in ids]).rstrip("\x00")


def test_names(folder):
    sets = {
        "udpos": ("en", "ja"), "ner.toy": ("de", "en"), "slu.toy.intents": ("en",), "slu.toy.slots": ("en",),
        "sib200": ("en",), "xcopa": ("it",), "xquad": ("en",),
    }  # fmt: skip
    texts = {
        "mt.ntrex": ("de_en", "en_de", "en_fr", "fr_en"), "mt.tico19": ("en_hi", "hi_en"), "mt.joshua": ("hi_en",),
        "mt.tatoeba": ("en_mr", "mr_en"), "summ.toy": ("en",),
    }  # fmt: skip
    wanted = {f"toy:{family}" for family in (*sets, *(f"text:{family}" for family in sets), *texts)}
    for family, languages in (*sets.items(), *((f"text:{family}", codes) for family, codes in sets.items())):
        wanted |= {f"toy:{family}:{code}" for code in languages}
    for family, languages in texts.items():
        wanted |= {f"toy:{family}:{code}" for code in languages}
    assert set(folder.register()) == wanted
    assert {task.name for task in seqio.MixtureRegistry.get("toy:udpos").tasks} == {"toy:udpos:en", "toy:udpos:ja"}


def test_words(folder):
    classes = folder.classes("toy:udpos:en")
    first, second = load("toy:udpos:en", "train", inputs=32, targets=32)
    assert text(first["inputs"]) == "A cat" and first["inputs"][-1] == EOS and len(classes) == 17
    ignored = alignment.IGNORED
    assert first["targets"].tolist() == [classes.index("DET"), ignored, classes.index("NOUN"), *[ignored] * 3]
    assert second["inputs_pretokenized"] == b"It sat" and second["targets_pretokenized"] == b"PRON VERB"
    (cut,) = load("toy:udpos:ja", "train", inputs=5, targets=5)
    assert cut["inputs"].tolist()[-1] == EOS and len(cut["inputs"]) == len(cut["targets"]) == 5
    assert cut["inputs_pretokenized"].decode() == "雨だ"
    assert [classes[label] for label in cut["targets"] if label >= 0] == ["NOUN", "AUX"]


def test_inventories_are_the_familys(folder):
    assert folder.classes("toy:ner.toy:en") == folder.classes("ner.toy") == ("O", "B-LOC", "B-PER")
    (found,) = load("toy:ner.toy:de", "test", inputs=8, targets=8)
    assert found["targets"][0] == 1
    assert folder.classes("text:slu.toy.intents:en") == ("play", "sing")
    with pytest.raises(ValueError, match="no downstream task is named 'toy:udpos:fr': did you mean udpos:"):
        folder.classes("toy:udpos:fr")
    with pytest.raises(ValueError, match="'mt.ntrex:en_de' has no classes"):
        folder.classes("mt.ntrex:en_de")


def test_classes(folder):
    found = load("toy:slu.toy.intents:en", "validation", inputs=16, targets=1)
    assert [(text(one["inputs"]), one["targets"].tolist()) for one in found] == [("sing", [1]), ("play it", [0])]
    (found,) = load("toy:sib200:en", "train", inputs=16, targets=1)
    assert found["targets"].tolist() == [folder.classes("sib200").index("travel")] == [6]
    (found,) = load("toy:xcopa:it", "validation", inputs=64, targets=1)
    assert text(found["inputs"][found["inputs"] != EOS]) == "PcauseAB" and (found["inputs"] == EOS).sum() == 4
    assert found["targets"].tolist() == [1]
    (cut,) = load("toy:xcopa:it", "validation", inputs=10, targets=1)  # the longest text gives way
    assert text(cut["inputs"][cut["inputs"] != EOS]) == "PcaAB"[:1] + "cau" + "AB" and len(cut["inputs"]) == 10


def test_questions(folder):
    found = load("toy:xquad:en", "validation", inputs=20, targets=2)
    assert len(found) > 1 and {one["id"] for one in found} == {b"1"}
    held = [one for one in found if one["targets"][0]]
    assert held and all(len(one["inputs"]) <= 20 and one["offsets"].shape == (len(one["inputs"]), 2) for one in found)
    for one in held:
        first, last = one["targets"]
        assert text(one["inputs"][first : last + 1]) == "blue"
        assert one["context"].decode()[one["offsets"][first, 0] : one["offsets"][last, 1]] == "blue"
    assert found[0]["answers"].tolist() == [b"blue"] and len(load("toy:xquad:en", "train")) == 1
    with pytest.raises(ValueError, match="rows of 8 ids"):
        load("toy:xquad:en", "train", inputs=8, targets=2)


@pytest.mark.parametrize(
    ("name", "split", "asked", "said", "references"),
    [
        ("text:udpos:ja", "train", "udpos: 雨 だ", "NOUN AUX", 1),
        ("text:slu.toy.intents:en", "validation", "intents: sing", "sing", 1),
        ("text:xcopa:it", "validation", "choice: premise: P question: cause choice1: A choice2: B", "1", 1),
        ("text:xquad:en", "train", "question: Which? context: It is blue today.", "blue", 1),
        ("mt.ntrex:en_de", "validation", "de: Yes", "Ja", 1),
        ("mt.ntrex:fr_en", "validation", "en: Oui", "Yes", 1),
        ("mt.tico19:hi_en", "test", "en: एक", "one", 1),
        ("mt.joshua:hi_en", "devtest", "en: एक", "one", 4),
        ("mt.tatoeba:mr_en", "train", "en: थांबा!", "Stop!", 1),
        ("summ.toy:en", "train", "summarize: Long.", "s", 2),
    ],
)
def test_text_to_text(folder, name, split, asked, said, references):
    found = load(f"toy:{name}", split)[0]
    assert text(found["inputs"]) == found["inputs_pretokenized"].decode() == asked and found["inputs"][-1] == EOS
    assert text(found["targets"]) == found["targets_pretokenized"].decode() == said
    assert len(found["references"]) == references and found["references"][0].decode() == said
    (cut, *_) = load(f"toy:{name}", split, inputs=6, targets=3)
    assert cut["inputs"][-1] == cut["targets"][-1] == EOS and len(cut["inputs"]) == 6 and len(cut["targets"]) <= 3


def test_what_is_registered_stays_until_something_differs(folder):
    before = seqio.TaskRegistry.get("toy:udpos:en"), seqio.MixtureRegistry.get("toy:udpos")
    downstream.Folder(root=folder.root, vocabulary="bytes", prefix="toy", stride=8).register()
    assert (seqio.TaskRegistry.get("toy:udpos:en"), seqio.MixtureRegistry.get("toy:udpos")) == before
    downstream.Folder(root=folder.root, vocabulary="bytes", prefix="toy", stride=9).register()
    assert seqio.TaskRegistry.get("toy:udpos:en") is not before[0]
    assert seqio.MixtureRegistry.get("toy:udpos").tasks[0] is seqio.TaskRegistry.get("toy:udpos:en")
    folder.register()
    with pytest.raises(ValueError, match="nowhere is no vocabulary"):
        downstream.Folder(root=folder.root, vocabulary="nowhere", prefix="toy").register()


@pytest.mark.parametrize(
    ("mixture", "form", "targets"),
    [("toy:udpos", "tokens", 0), ("toy:sib200", "sequence", 0), ("toy:text:xquad:en", "encdec", 8)],
)
def test_they_train_by_name(folder, mixture, form, targets):
    data = examples.Examples(mixture=mixture, inputs=32, targets=targets, form=form)
    assert data.problems() == []
    feed = data.feed(batch=2, seed=0)
    batch = next(feed)
    feed.close()
    assert {name: (value.shape, value.dtype) for name, value in batch.items()} == data.spec(2)
    assert batch["weights"].sum() > 0 and "targets_pretokenized" in data.references()[0]


def test_an_absent_split_names_those_there_are(folder):
    with pytest.raises(ValueError, match="'toy:udpos:en' has no split 'validation': choose from test, train"):
        provider.split(seqio.get_mixture_or_task("toy:udpos:en"), "validation")
    for mixture in ("toy:udpos:en", "toy:udpos"):
        data = examples.Examples(mixture=mixture, inputs=8, form="tokens", split="dev")
        assert data.problems() == ["SeqIO task 'toy:udpos:en' has no split 'dev': choose from test, train"]


def test_a_dataset_repeats_without_end(folder):
    found = seqio.get_mixture_or_task("toy:udpos:en").get_dataset({"inputs": 8}, "train", num_epochs=None, seed=0)
    assert len(list(found.take(7).as_numpy_iterator())) == 7


def test_a_folder_without_sets(tmp_path):
    with pytest.raises(ValueError, match="holds no downstream sets"):
        downstream.Folder(root=str(tmp_path), vocabulary="bytes").register()


def files(tmp_path, body, **options):
    (tmp_path / "a.tsv").write_text(body)
    splits = (("train", str(tmp_path / "a.tsv")), ("test", str(tmp_path / "a*.tsv")))
    return downstream.Files(**{"name": "mine.set:sw", "vocabulary": "bytes", "splits": splits, **options})


def test_own_files(tmp_path):
    columns = ("premise", "hypothesis", "label")
    mine = files(tmp_path, "P\tH\tneutral\nQ\tI\tentailment\n", format="labels", columns=columns, prompt="xnli")
    assert mine.register() == ("mine.set:sw", "text:mine.set:sw")
    assert mine.classes("mine.set:sw") == ("entailment", "neutral")
    found = load("mine.set:sw", "test", inputs=8, targets=1)
    assert [one["inputs"].tolist() for one in found] == [[83, EOS, 75, EOS], [84, EOS, 76, EOS]]
    assert [one["targets"].tolist() for one in found] == [[1], [0]]
    assert load("text:mine.set:sw", "train")[0]["inputs_pretokenized"] == b"xnli: premise: P hypothesis: H"
    given = files(tmp_path, "P\tneutral\n", format="labels", labels=("neutral", "other"), name="mine")
    assert given.register() == ("mine", "text:mine") and given.classes("mine") == ("neutral", "other")
    assert load("mine", "train")[0]["targets"].tolist() == [0]


def test_mistakes_in_own_files_come_as_one_line(tmp_path):
    files(tmp_path, "a\tO\nb\n", format="conll", name="bad").register()
    data = examples.Examples(mixture="bad", inputs=8, form="tokens")
    (problem,) = data.problems()
    assert "a.tsv:2 is not a word and its tag" in problem and "\n" not in problem
    files(tmp_path, "a\tX\n", format="conll", name="bad", labels=("O",)).register()
    (problem,) = data.problems()
    assert "a.tsv:1: label 'X' is none of O" in problem
    with pytest.raises(ValueError, match="'none' has no splits"):
        downstream.Files(name="none", vocabulary="bytes", format="conll", splits=()).register()


def test_importing_is_cheap():
    code = "from tasks import downstream; import sys; print([n for n in ('tensorflow', 'seqio') if n in sys.modules])"
    root = pathlib.Path(__file__).parents[2]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

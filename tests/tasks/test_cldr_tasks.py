import itertools

import pytest
import seqio

from tasks import cldr, cldr_examples, cldr_tasks, examples

CORPUS = cldr.Cldr(languages=("en", "de", "ja"))
COUNTS = {"train": 40, "validation": 10, "test": 10}


@pytest.fixture(scope="module")
def names():
    found = cldr_tasks.register("bytes", corpus=CORPUS, examples=COUNTS)
    yield found
    for name in found:
        seqio.TaskRegistry.remove(name)
    for sort in ("translate", "label", "classify"):
        seqio.MixtureRegistry.remove(f"cldr:{sort}")


def load(name, split="train", length=400):
    task = seqio.get_mixture_or_task(name)
    lengths = {feature: length for feature in task.output_features}
    return list(task.get_dataset(lengths, split, shuffle=False).as_numpy_iterator())


def test_every_task_and_mixture_is_registered(names):
    pairs = {f"cldr:translate:{one}_{other}" for one, other in itertools.permutations(CORPUS.languages, 2)}
    singles = {f"cldr:{sort}:{language}" for sort in ("label", "classify") for language in CORPUS.languages}
    assert set(names) == pairs | singles
    assert set(seqio.MixtureRegistry.names()) >= {"cldr:translate", "cldr:label", "cldr:classify"}
    assert {task.name for task in seqio.MixtureRegistry.get("cldr:label").tasks} == {n for n in names if "label" in n}
    assert (
        cldr_tasks.register(seqio.ByteVocabulary(), corpus=CORPUS, examples=COUNTS) == names
    )  # once more does no harm


def test_translation(names):
    spell = seqio.ByteVocabulary()
    found = load("cldr:translate:en_de", "test")
    assert len(found) == COUNTS["test"]
    for index, example in enumerate(found):
        pair = cldr_examples.translate("en", "de", index, split="test")
        assert spell.decode(example["inputs"].tolist()) == f"de: {pair['source']}"
        assert spell.decode(example["targets"].tolist()) == pair["target"]
        assert example["inputs"][-1] == example["targets"][-1] == spell.eos_id


def test_labels_stand_on_first_subwords(names):
    for index, example in enumerate(load("cldr:label:ja", "validation")):
        wanted = cldr_examples.label("ja", index, split="validation")
        labels = example["targets"]
        assert len(labels) == len(example["inputs"]) and labels[-1] == -100
        assert [cldr_examples.TAGS[label] for label in labels if label >= 0] == list(wanted["tags"])
        assert example["inputs_pretokenized"].decode() == wanted["text"]


def test_classes(names):
    for index, example in enumerate(load("cldr:classify:de")):
        wanted = cldr_examples.classify("de", index, split="train")
        assert [cldr_examples.KINDS[label] for label in example["targets"]] == [wanted["kind"]]
        assert example["inputs"][-1] == 1


@pytest.mark.parametrize(
    ("mixture", "form", "targets"),
    [("cldr:translate", "encdec", 96), ("cldr:label:en", "tokens", 0), ("cldr:classify", "sequence", 0)],
)
def test_they_train_by_name(names, mixture, form, targets):
    data = examples.Examples(mixture=mixture, inputs=128, targets=targets, form=form)
    assert data.problems() == []
    feed = data.feed(batch=4, seed=0)
    batch = next(feed)
    feed.close()
    assert {name: (value.shape, value.dtype) for name, value in batch.items()} == data.spec(4)
    assert batch["weights"].sum() > 0

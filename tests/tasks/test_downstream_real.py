"""The real downstream sets, where they are: as many examples as their manifest says, known labels, words in place."""

import json

import pytest
import seqio

from tasks import alignment, dataset, downstream, encoder, examples, folder

SETS = ("udpos:te", "udpos:ja", "ner.mahaner:mr", "slu.xsid.slots:ja", "slu.snips.intents:en", "sib200:hi")


@pytest.fixture(scope="module")
def real_sets(real_text):
    """The folder of downstream sets beside the pretraining text, and the sets in it by name."""
    root = real_text.parent / "tasks"
    if not root.is_dir():
        pytest.skip(f"no downstream sets at {root}: set BATON_DATA to the folder that holds tasks/")
    return root, {one.name: one for one in folder.datasets(str(root))}


@pytest.fixture(scope="module")
def documents(real_sets):
    """How many examples the manifest says each file has."""
    found = json.loads((real_sets[0].parent / "MANIFEST.json").read_text())
    return {one["file"].partition("tasks/")[2]: one["docs"] for one in found if "/tasks/" in one["file"]}


def classes(real_sets, name):
    family = name.rpartition(":")[0]
    return dataset.classes([one for one in real_sets[1].values() if one.family == family])


@pytest.mark.parametrize("name", (*SETS, "xcopa:it", "mt.ntrex:en_de", "mt.tico19:ta_en", "mt.joshua:te_en"))
def test_every_example_is_read_and_every_label_known(real_sets, documents, name):
    root, sets = real_sets
    allowed = classes(real_sets, name)
    for split, source in sets[name].splits:
        found = sets[name].read(split, allowed)
        for path in source.files:
            assert len(found) == documents[path.removeprefix(f"{root}/")], (split, path)
        assert {label for record in found for label in record.labels} <= set(allowed)


def test_questions_are_split_by_article(real_sets, documents):
    _, sets = real_sets
    found = {split: sets["xquad:de"].read(split) for split, _ in sets["xquad:de"].splits}
    assert {"train", "validation"} <= set(found)
    assert sum(map(len, found.values())) == documents["xquad/de.jsonl.gz"]
    contexts = [{record.context for record in part} for part in found.values()]
    assert not contexts[0] & contexts[1]


@pytest.mark.parametrize("name", [name for name in SETS if name.startswith(("udpos", "ner", "slu.xsid"))])
def test_words_come_back_from_their_ids(real_sets, name):
    spell = encoder.Bytes()
    split = real_sets[1][name].splits[0][0]
    records = real_sets[1][name].read(split, classes(real_sets, name))[:60]
    found = alignment.words(spell, [record.words for record in records], spaced=records[0].spaced)
    for record, (ids, positions) in zip(records, found):
        stops = [*positions[1:], len(ids)]
        assert [spell.decode(ids[a:b].tolist()).strip() for a, b in zip(positions, stops)] == list(record.words)


def test_they_are_read_by_name(real_sets):
    root, _ = real_sets
    names = downstream.Folder(root=str(root), vocabulary="bytes", prefix="real").register()
    data = examples.Examples(mixture="real:udpos", inputs=64, form="tokens", split="validation", limit=3)
    assert data.problems() == [] and "real:udpos:en" in data.parts()
    assert data.count() == 3 * len(data.parts())
    for name in names:
        for registry in (seqio.TaskRegistry, seqio.MixtureRegistry):
            if name in registry.names():
                registry.remove(name)

"""Sets of TensorFlow Datasets as SeqIO tasks: examples with their features, in the place of the sets. No network."""

import numpy as np
import pytest
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from tasks import downstream, seqio_records, tfds_records

pytestmark = pytest.mark.usefixtures("registries")


def load(name):
    return list(seqio.TaskRegistry.get(name).get_dataset(None, "test", shuffle=False).as_numpy_iterator())


def stand_in(values, monkeypatch):
    """Puts a source of these examples in the place of TensorFlow Datasets'; returns what was asked for."""
    asked = []

    def source(name, directory):
        asked.append((name, directory))

        def dataset(split, shuffle_files, seed=None):
            assert split == "test"
            return tf.data.Dataset.from_tensors(values)

        return seqio.FunctionDataSource(dataset, splits=("test",))

    monkeypatch.setattr(seqio_records, "downloaded", source)
    return asked


HYPOTHESIS = {"language": ["ar", "de"], "translation": ["X", "H"]}
PLACE = {"text": ["blau"], "answer_start": np.array([8], np.int32)}


@pytest.mark.parametrize(
    ("name", "language", "values", "task", "asked", "said"),
    [
        ("xtreme_pos/xtreme_pos_de:1.0.0", "de", {"tokens": ["Ja", "!"], "upos": [6, 12]}, "tfds.xtreme_pos:xtreme_pos_de", "Ja !", "INTJ PUNCT"),
        ("universal_dependencies/ja_gsd:1.0.1", "ja", {"tokens": ["雨", "だ"], "upos": [7, 17]}, "tfds.universal_dependencies:ja_gsd", "雨だ", "NOUN _"),
        ("wikiann/de:1.0.0", "de", {"tokens": ["Bonn"], "tags": [5]}, "tfds.wikiann:de", "Bonn", "B-LOC"),
        ("xtreme_xnli:1.1.0", "de", {"premise": {"ar": "Y", "de": "P"}, "hypothesis": HYPOTHESIS, "label": 2}, "tfds.xtreme_xnli:de", "premise: P hypothesis: H", "contradiction"),
        ("xtreme_pawsx/de:1.0.0", "de", {"sentence1": "A", "sentence2": "B", "label": 1}, "tfds.xtreme_pawsx:de", "sentence1: A sentence2: B", "paraphrase"),
        ("xquad/de:3.0.0", "de", {"id": "1", "title": "", "question": "Wie?", "context": "Alles = blau.", "answers": PLACE}, "tfds.xquad:de", "question: Wie? context: Alles = blau.", "blau"),
        ("xsum:1.1.0", "en", {"document": "D", "summary": "S"}, "tfds.xsum:en", "summarize: D", "S"),
    ],
)  # fmt: skip
def test_sets_of_tensorflow_datasets(monkeypatch, name, language, values, task, asked, said):
    wanted = stand_in(values, monkeypatch)
    made = downstream.Tfds(dataset=name, vocabulary="bytes", language=language)
    names = made.register()
    assert names[0] == task and names[1:] in ((), (f"text:{task}",)) and wanted == [(name, "")] * len(names)
    (found,) = load(task)
    assert found["inputs_pretokenized"].decode() == asked and found["targets_pretokenized"].decode() == said
    if "tokens" in values or "label" in values:
        classes = made.classes(task)
        labels = [classes[label] for label in found["targets"] if label >= 0]
        assert " ".join(labels) == said.removesuffix(" _")
    (twin,) = load(names[-1])
    assert seqio.ByteVocabulary().decode(twin["targets"].tolist()[:-1]) == said
    made.register()
    assert len(wanted) == len(names)  # registered once


def test_sets_that_are_not_known(monkeypatch):
    for name in ("xquad/de", "mnist:1.0.0"):
        with pytest.raises(ValueError, match=f"'{name}' is no set with its version, as 'xquad/de:3.0.0', of these"):
            downstream.Tfds(dataset=name, vocabulary="bytes").register()
    stand_in({"document": "D"}, monkeypatch)
    (name,) = downstream.Tfds(dataset="xsum:1.1.0", vocabulary="bytes", name="lacks").register()
    with pytest.raises(ValueError, match="'lacks' needs the features .* but its source has no 'summary'"):
        load(name)


def test_a_source_of_tensorflow_datasets_opens_nothing_yet():
    found = seqio_records.downloaded("xquad/de:3.0.0", "")
    assert isinstance(found, seqio.TfdsDataSource) and found.tfds_dataset.name == "xquad/de:3.0.0"


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("universal_dependencies/de_gsd", "upos"),
        ("xtreme_pos/xtreme_pos_de", "upos"),
        ("wikiann/de", "tags"),
        ("xnli", "label"),
        ("xtreme_xnli", "label"),
        ("xtreme_pawsx/de", "label"),
        ("xquad/de", None),
        ("squad", None),
        ("mlqa/de", None),
        ("tydi_qa", None),
        ("xsum", None),
    ],
)
def test_the_library_has_these_features_and_labels(name, labels):
    with tfds.testing.mock_data(policy=tfds.testing.MockPolicy.USE_CODE):
        features = tfds.builder(name).info.features
    how = tfds_records.CONVERSIONS[name.partition("/")[0]]
    assert set(how.needs) <= set(features)
    if labels:
        found = features[labels]
        assert set(how.classes) == set(getattr(found, "feature", found).names) - {"_"}
        # Their numbers are the library's.
        for number, label in enumerate(getattr(found, "feature", found).names):
            many = {"tokens": ["x"], "upos": [number], "tags": [number]}
            nli = {"premise": {"de": "P"}, "hypothesis": {"language": ["de"], "translation": ["H"]}}
            one = {**many, **nli, "sentence1": "a", "sentence2": "b", "label": number}
            assert how.record(one, "de").said == label

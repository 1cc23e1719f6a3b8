import numpy as np
import pytest
import seqio
import tensorflow as tf

from tasks import examples

BYTES = seqio.ByteVocabulary()
LABELS = seqio.PassThroughVocabulary(size=5)
SIZES = {"one": 13, "two": 5}


def _source(records):
    def read(split, shuffle_files=False, seed=None):
        del shuffle_files, seed
        return tf.data.Dataset.from_generator(
            lambda: iter(records[split]),
            output_signature={
                key: tf.TensorSpec(
                    (None,) * np.ndim(value) if np.ndim(value) else (), tf.as_dtype(np.asarray(value).dtype)
                )
                if not isinstance(value, str)
                else tf.TensorSpec((), tf.string)
                for key, value in records[split][0].items()
            },
        )

    return seqio.FunctionDataSource(read, splits=tuple(records))


def _add(name, records, targets, steps=(), inputs=None):
    features = {"inputs": inputs or seqio.Feature(BYTES), "targets": targets}
    seqio.TaskRegistry.add(name, source=_source(records), preprocessors=list(steps), output_features=features)


@pytest.fixture(scope="module")
def tasks():
    """Texts (two tasks and their mixture), labels of tokens, labels of sequences."""
    steps = (seqio.preprocessors.tokenize, seqio.preprocessors.append_eos)
    for name, size in SIZES.items():
        records = [{"inputs": f"{name} {k}", "targets": "y" * (k % 4)} for k in range(size)]
        _add(f"test_examples_{name}", {"train": records, "test": records[:3]}, seqio.Feature(BYTES), steps)
    seqio.MixtureRegistry.add("test_examples_mix", [("test_examples_one", 3.0), ("test_examples_two", 1.0)])
    tokens = [{"inputs": np.arange(3, 4 + k), "targets": np.arange(k + 1) % 3 - (k % 2) * 100} for k in range(6)]
    labels = [{"inputs": np.arange(3, 9), "targets": k % 5} for k in range(7)]
    for name, records, feature in (
        ("tokens", tokens, seqio.Feature(LABELS, add_eos=False)),
        ("labels", labels, seqio.Feature(LABELS, add_eos=False, rank=0)),
    ):
        records = [{key: np.asarray(value, np.int32) for key, value in record.items()} for record in records]
        _add(f"test_examples_{name}", {"train": records}, feature)
    yield
    seqio.MixtureRegistry.remove("test_examples_mix")
    for name in (*SIZES, "tokens", "labels"):
        seqio.TaskRegistry.remove(f"test_examples_{name}")


def make(name, **changes):
    return examples.Examples(**{"mixture": f"test_examples_{name}", "inputs": 12, "targets": 6, **changes})


def take(data, steps, **arguments):
    feed = data.feed(**{"batch": 4, "seed": 1, **arguments})
    found = [next(feed) for _ in range(steps)]
    feed.close()
    return found


def texts(batch):
    return [BYTES.decode([t for t in row.tolist() if t > 1]) for row in batch["encoder_inputs"]]


@pytest.mark.parametrize(
    ("name", "form"),
    [("mix", "encdec"), ("one", "prefix"), ("one", "causal"), ("tokens", "tokens"), ("labels", "sequence")],
)
def test_spec_and_processes_and_start(tasks, name, form):
    data = make(name, form=form)
    whole = take(data, 6)
    assert {key: (a.shape, a.dtype) for key, a in whole[0].items()} == data.spec(4)
    halves = [take(data, 6, process_index=index, process_count=2) for index in range(2)]
    late = take(data, 2, start=4)
    for step, batch in enumerate(whole):
        for key in batch:
            assert np.array_equal(np.concatenate([half[step][key] for half in halves]), batch[key])
            assert step < 4 or np.array_equal(late[step - 4][key], batch[key])


def test_every_example_once_an_epoch_in_an_order_of_its_own(tasks):
    data = make("one")
    assert data.count() == 13
    seen = [text for batch in take(data, 26, batch=1) for text in texts(batch)]
    assert sorted(seen[:13]) == sorted(seen[13:]) == sorted(f"one {k}" for k in range(13))
    assert seen[:13] != seen[13:]
    assert seen != [text for batch in take(data, 26, batch=1, seed=2) for text in texts(batch)]


def test_mixture_takes_turns_by_rates(tasks):
    data = make("mix")
    assert data.parts() == ("test_examples_one", "test_examples_two")
    batches = take(data, 20)
    parts = np.concatenate([batch["part"] for batch in batches])
    assert (parts == 0).sum() == 60
    names = [text.split()[0] for batch in batches for text in texts(batch)]
    assert names == [["one", "two"][part] for part in parts]


def test_once_is_in_order_and_filled_with_empty_rows(tasks):
    data = make("mix")
    found = list(data.once(4))
    assert len(found) == 5 and all(batch["encoder_inputs"].shape == (4, 12) for batch in found)
    assert [text for batch in found for text in texts(batch)][:18] == [
        *(f"one {k}" for k in range(13)),
        *(f"two {k}" for k in range(5)),
    ]
    last = found[-1]
    assert (last["weights"][2:] == 0).all() and (last["encoder_segments"][2:] == 0).all()
    assert last["weights"][:2].any(1).all()
    assert [len(half["part"]) for index in (0, 1) for half in data.once(4, process_index=index, process_count=2)] == [
        2
    ] * 10
    references = data.references()
    assert [r["inputs_pretokenized"] for r in references[:2]] == ["one 0", "one 1"] and len(references) == 18


def test_texts_of_an_encoder_decoder_and_of_a_decoder_alone(tasks):
    (pair, *_) = make("one").once(4)
    (alone, *_) = make("one", form="prefix").once(4)
    read = [t for t in pair["encoder_inputs"][3].tolist() if t]
    written = pair["targets"][3][pair["weights"][3] > 0].tolist()
    assert BYTES.decode(read) == "one 3" and read[-1] == written[-1] == 1 and BYTES.decode(written) == "yyy"
    assert pair["decoder_inputs"][3][: len(written)].tolist() == [0, *written[:-1]]
    assert alone["targets"][3][: len(read) + len(written)].tolist() == read + written
    assert alone["targets"][3][alone["weights"][3] > 0].tolist() == written
    (goes_on, *_) = make("one", form="causal").once(4)
    assert "decoder_prefix" in alone and "decoder_prefix" not in goes_on
    assert goes_on["targets"][3][: len(read) - 1 + len(written)].tolist() == read[:-1] + written
    assert goes_on["targets"][3][goes_on["weights"][3] > 0].tolist() == written


def test_causal_is_prefix_without_the_end_between_and_without_its_mask(tasks):
    """A text that goes on: the same ids, places and targets as those of a prefix LM whose inputs have no end."""
    records = {"train": [{"inputs": f"one {k}", "targets": "y" * (k % 4)} for k in range(SIZES["one"])]}
    steps = (seqio.preprocessors.tokenize, seqio.preprocessors.append_eos)
    bare = seqio.Feature(BYTES, add_eos=False)
    _add("test_examples_bare", records, seqio.Feature(BYTES), steps, inputs=bare)
    opened, closed = list(make("bare", form="prefix").once(4)), list(make("one", form="causal").once(4))
    seqio.TaskRegistry.remove("test_examples_bare")
    assert len(opened) == len(closed) == 4
    for one, other in zip(opened, closed):
        prefix = one.pop("decoder_prefix")
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert np.array_equal(value, other[key]), key
        asked, learnt = prefix.sum(axis=1), other["weights"] > 0
        real = other["decoder_segments"] > 0
        # The first place that is learnt reads the last of the question; none before it is.
        assert (learnt == (real & (np.arange(learnt.shape[1]) >= asked[:, None] - 1))).all() and learnt.any()


def test_labels_of_tokens(tasks):
    (batch, *_) = make("tokens", form="tokens").once(6)
    assert batch["weights"].sum(1).tolist() == [1, 0, 3, 0, 5, 0]
    assert batch["targets"][4].tolist() == [0, 1, 2, 0, 1] + [0] * 7
    assert (batch["targets"][5] == 0).all() and batch["encoder_segments"].sum(1).tolist() == [1, 2, 3, 4, 5, 6]


def test_labels_of_sequences(tasks):
    found = list(make("labels", form="sequence").once(4))
    assert np.concatenate([b["targets"] for b in found]).tolist() == [0, 1, 2, 3, 4, 0, 1, 0]
    assert np.concatenate([b["weights"] for b in found]).tolist() == [1.0] * 7 + [0.0]


def test_limit_and_split(tasks):
    assert make("mix", limit=4).count() == 8
    assert make("mix", split="test").count() == 6


def test_long_texts_are_trimmed(tasks):
    (batch, *_) = make("one", inputs=4).once(2)
    assert texts(batch) == ["one ", "one "]


def test_a_name_registered_anew_is_read_anew():
    for text in ("old", "new"):
        steps = (seqio.preprocessors.tokenize, seqio.preprocessors.append_eos)
        _add("test_examples_again", {"train": [{"inputs": text, "targets": "y"}]}, seqio.Feature(BYTES), steps)
        (batch,) = make("again").once(1)
        seqio.TaskRegistry.remove("test_examples_again")
        assert texts(batch) == [text]


def test_problems_name_the_nearest_and_the_mend(tasks):
    assert make("one").problems() == []
    (problem,) = make("onn").problems()
    assert "test_examples_onn" in problem and "did you mean" in problem and "test_examples_one" in problem
    (problem,) = make("one", split="dev").problems()
    assert "'dev'" in problem and "train, test" in problem
    (problem,) = make("one", modules=("no_such_module",)).problems()
    assert "no_such_module" in problem
    (problem,) = make("one", form="tokens").problems()
    assert "labels" in problem and "'tokens'" in problem
    with pytest.raises(ValueError, match="form='pair'"):
        make("one", form="pair")
    with pytest.raises(ValueError, match="targets=0"):
        make("one", targets=0)
    with pytest.raises(ValueError, match="shared by 3"):
        make("one").feed(batch=4, seed=0, process_count=3)


def test_fingerprint(tasks):
    from tasks import vocabulary

    assert make("one").fingerprint() == vocabulary.fingerprint(BYTES)

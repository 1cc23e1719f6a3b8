import numpy as np
import pytest
import seqio
import tensorflow as tf

from tasks import streamed

BYTES = seqio.ByteVocabulary(extra_ids=125)
MASK = 259


@pytest.fixture(scope="module")
def tasks():
    """Pairs of texts, the same through t5's span corruption, and masked text."""
    preprocessors = pytest.importorskip("t5.data.preprocessors")

    def read(split, shuffle_files=False, seed=None):
        del split, shuffle_files, seed
        lines = [f"{k} " + "abc"[k % 3] * (k % 17) for k in range(200)]
        return tf.data.Dataset.from_tensor_slices({"inputs": lines, "targets": [line[::-1] for line in lines]})

    def mask(dataset):
        def one(example):
            targets = example["targets"]
            inputs = tf.where(tf.range(tf.size(targets)) % 4 == 1, MASK, targets)
            return {"inputs": inputs, "targets": targets}

        return dataset.map(one)

    source = seqio.FunctionDataSource(read, splits=("train",))
    both = {"inputs": seqio.Feature(BYTES), "targets": seqio.Feature(BYTES)}
    spell, end = seqio.preprocessors.tokenize, seqio.preprocessors.append_eos
    seqio.TaskRegistry.add("test_streamed_pairs", source=source, preprocessors=[spell, end], output_features=both)
    seqio.TaskRegistry.add(
        "test_streamed_spans",
        source=source,
        preprocessors=[spell, preprocessors.span_corruption, end],
        output_features=both,
    )
    seqio.TaskRegistry.add("test_streamed_masked", source=source, preprocessors=[spell, mask], output_features=both)
    bare = {"targets": seqio.Feature(seqio.ByteVocabulary())}
    seqio.TaskRegistry.add("test_streamed_bare", source=source, preprocessors=[spell], output_features=bare)
    seqio.MixtureRegistry.add("test_streamed_mix", [("test_streamed_pairs", 1), ("test_streamed_spans", 1)])
    yield
    seqio.MixtureRegistry.remove("test_streamed_mix")
    for name in ("pairs", "spans", "masked", "bare"):
        seqio.TaskRegistry.remove(f"test_streamed_{name}")


def make(name, **changes):
    return streamed.Streamed(**{"mixture": f"test_streamed_{name}", "inputs": 64, "targets": 48, **changes})


def take(data, steps, **arguments):
    feed = data.feed(**{"batch": 4, "seed": 1, **arguments})
    found = [next(feed) for _ in range(steps)]
    feed.close()
    return found


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("mix", {}),
        ("pairs", {"pack": False}),
        ("pairs", {"form": "prefix"}),
        ("pairs", {"form": "causal", "targets": 0, "inputs": 40}),
        ("masked", {"form": "masked", "targets": 20}),
    ],
    ids=str,
)
def test_spec_and_processes_and_start(tasks, name, changes):
    data = make(name, **changes)
    whole = take(data, 4)
    assert {key: (a.shape, a.dtype) for key, a in whole[0].items()} == data.spec(4)
    # The second of two processes, started late: its rows of the same batches.
    late = take(data, 2, start=2, process_index=1, process_count=2)
    for step, batch in enumerate(whole[2:]):
        for key in batch:
            assert np.array_equal(late[step][key], batch[key][2:]), key


def test_seed_decides(tasks):
    data = make("pairs", pack=False)
    assert not np.array_equal(take(data, 1)[0]["targets"], take(data, 1, seed=2)[0]["targets"])


def test_packed_pairs_keep_together(tasks):
    for batch in take(make("pairs"), 3):
        for row in range(4):
            assert batch["encoder_segments"][row].max() > 1
            for segment in range(1, batch["encoder_segments"][row].max() + 1):
                read = batch["encoder_inputs"][row][batch["encoder_segments"][row] == segment]
                written = batch["targets"][row][batch["decoder_segments"][row] == segment]
                assert BYTES.decode(read.tolist()) == BYTES.decode(written.tolist())[::-1]
                assert batch["encoder_positions"][row][batch["encoder_segments"][row] == segment][0] == 0


def test_without_packing_a_row_is_one_segment(tasks):
    packed, single = make("pairs"), make("pairs", pack=False)
    assert packed.pack != single.pack
    for batch in take(single, 2):
        assert batch["encoder_segments"].max() == batch["decoder_segments"].max() == 1
        for side, values in (("encoder", batch["encoder_inputs"]), ("decoder", batch["targets"])):
            used = batch[f"{side}_segments"] > 0
            assert ((values != 0) == used).all()
            assert (batch[f"{side}_positions"].max(1) == used.sum(1) - 1).all()
        assert ((batch["weights"] > 0) == (batch["decoder_segments"] > 0)).all()


def test_prefix_is_given_and_seen_both_ways(tasks):
    (batch,) = take(make("pairs", form="prefix"), 1)
    assert batch["decoder_prefix"].max() == 1
    for row in range(4):
        for segment in range(1, batch["decoder_segments"][row].max() + 1):
            at = batch["decoder_segments"][row] == segment
            given = (batch["weights"][row][at] == 0).sum()
            assert batch["decoder_prefix"][row][at].tolist() == [1] * (given + 1) + [0] * (at.sum() - given - 1)


def test_masked_targets_are_gathered(tasks):
    (batch,) = take(make("masked", form="masked", targets=20), 1)
    for row in range(4):
        count = int(batch["weights"][row].sum())
        at = batch["target_positions"][row]
        assert 0 < count and (np.diff(at[:count]) > 0).all() and (at[count:] == 0).all()
        assert (batch["encoder_inputs"][row][at[:count]] == MASK).all()
        assert (batch["encoder_inputs"][row] == MASK).sum() >= count
        assert (batch["targets"][row][:count] > 2).all() and (batch["targets"][row][count:] == 0).all()


def test_batons_own_tasks_make_whole_rows(tmp_path):
    from tasks import encoder, objectives, registry, sources

    text = tmp_path / "text.txt"
    text.write_text("\n".join("word " * (k % 9 + 1) for k in range(400)))
    names = registry.register(
        "test streamed",
        {"en": sources.Lines(files=(str(text),))},
        encoder.Bytes(),
        {"mlm": objectives.MaskedLM(), "spans": objectives.SpanCorruption()},
    )
    mlm, spans = (next(name for name in names if name.endswith(f"en:{label}")) for label in ("mlm", "spans"))
    whole = take(streamed.Streamed(mixture=mlm, inputs=64, targets=10, form="masked"), 2)
    assert whole[0]["targets"].shape == (4, 10) and whole[0]["weights"].all()
    (batch,) = take(streamed.Streamed(mixture=spans, inputs=64, targets=24), 1)
    assert batch["encoder_segments"].max() > 1
    with pytest.raises(ValueError, match=r"target_positions of shape \(4, 10\) where \(4, 11\)"):
        take(streamed.Streamed(mixture=mlm, inputs=64, targets=11, form="masked"), 1)


def test_problems(tasks):
    assert make("pairs").problems() == []
    (problem,) = make("pears").problems()
    assert "did you mean" in problem and "test_streamed_pairs" in problem
    (problem,) = make("pairs", split="dev").problems()
    assert "'dev'" in problem
    (problem,) = make("bare").problems()
    assert "'inputs'" in problem and "form='encdec'" in problem
    with pytest.raises(ValueError, match="form='masked'"):
        streamed.Streamed(mixture="x", inputs=8, form="masked")
    with pytest.raises(ValueError, match="form='spans'"):
        make("pairs", form="spans")

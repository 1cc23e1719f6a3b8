import dataclasses
import json
import random

import numpy as np
import pytest
import seqio
import tensorflow_datasets as tfds

from tasks import blend, holdout, objectives, registry, sources, store, tokenize, vocabulary

LENGTHS = {"inputs": 48, "targets": 24}
OBJECTIVES = {
    "mlm": objectives.MaskedLM(),
    "span-corruption": objectives.SpanCorruption(),
    "causal": objectives.CausalLM(),
}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    root = tmp_path_factory.mktemp("text")
    rng = random.Random(0)
    for name, count in (("de", 300), ("en", 60)):
        texts = [" ".join(rng.choices(["ein", "zwei", "drei"], k=rng.randint(1, 9))) for _ in range(count)]
        (root / f"{name}.jsonl").write_text("\n".join(json.dumps({"text": f"{name} {text}"}) for text in texts))
    return {name: sources.JsonLines(files=str(root / f"{name}.jsonl")) for name in ("de", "en")}


@pytest.fixture(scope="module")
def registered(parts):
    return registry.register("test", parts, "bytes", OBJECTIVES, validation=0.1, alpha=0.5)


@pytest.fixture(scope="module")
def built(tmp_path_factory, parts):
    root = tmp_path_factory.mktemp("store")
    tokenize.build(parts, "bytes", root, processes=1, validation=0.1)
    return root


def rows(name, count, *, split="train", seed=0, shuffle=False, lengths=LENGTHS):
    dataset = registry.get(name).get_dataset(lengths, split=split, seed=seed, shuffle=shuffle)
    return list(dataset.take(count).as_numpy_iterator())


def test_every_part_and_objective_has_a_task_and_each_objective_a_mixture(registered):
    assert len(registered) == 3 * 2 + 3
    assert isinstance(registry.get("baton:test:de:span_corruption"), seqio.Task)
    assert isinstance(registry.get("baton:test:mlm"), seqio.Mixture)
    assert set(registry.get("baton:test:mlm").splits) == {"train", "validation"}


@pytest.mark.parametrize("label", OBJECTIVES)
def test_features_are_the_batch_contract(registered, label):
    goal = OBJECTIVES[label]
    spec = goal.spec(1, LENGTHS["inputs"], LENGTHS["targets"])
    for row in rows(registry.name_of("test", label), 3):
        assert {name: ((1, *value.shape), value.dtype) for name, value in row.items()} == spec


def test_a_seed_decides_the_noise(registered):
    first, same, other = (rows("baton:test:de:span_corruption", 4, seed=seed) for seed in (1, 1, 2))
    for name in first[0]:
        np.testing.assert_array_equal([row[name] for row in first], [row[name] for row in same])
    assert any((a["encoder_inputs"] != b["encoder_inputs"]).any() for a, b in zip(first, other, strict=True))


def test_text_and_store_give_the_same_rows(registered, built):
    goal = OBJECTIVES["span-corruption"]
    made = blend.Blend(store=str(built), objective=goal, inputs=48, targets=24)
    registry.register_blend("stored", made, objective_name="span")
    for split in ("train", "validation"):
        text = rows("baton:test:de:span_corruption", 5, split=split, seed=3)
        stored = rows("baton:stored:de:span", 5, split=split, seed=3)
        for a, b in zip(text, stored, strict=True):
            for name in a:
                np.testing.assert_array_equal(a[name], b[name])


def test_rows_are_what_the_objective_makes_of_the_store_s_windows(registered, built):
    """Both halves feed the same pieces into the same function."""
    goal = OBJECTIVES["causal"]
    window = goal.window(48, 24)
    part, special = store.open(built, "de"), store.vocabulary(built).specials
    for number, found in enumerate(rows("baton:test:de:causal", 5)):
        tokens = part.windows([number * window], window)[0]
        expected = goal(tokens, np.random.default_rng(0), inputs=48, targets=24, specials=special)
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])


def test_documents_may_be_joined(parts):
    registry.register("joined", parts, "bytes", {"causal": OBJECTIVES["causal"]}, separate=False)
    doc = vocabulary.encoder("bytes").specials.doc
    found = rows("baton:joined:de:causal", 8)
    assert any(doc in row["targets"] for row in found)
    assert all(row["decoder_segments"].max() == 1 for row in found)
    assert any(row["decoder_segments"].max() > 1 for row in rows("baton:test:de:causal", 8))


def test_mixture_rates(parts, registered, built):
    sizes = {name: sum(map(len, source.documents())) for name, source in parts.items()}
    mixture = registry.get("baton:test:mlm")
    rates = {task.name: mixture.get_rate(task) for task in mixture.tasks}
    assert rates == {f"baton:test:{name}:mlm": pytest.approx(size**0.5) for name, size in sizes.items()}
    registry.register("fixed", parts, "bytes", {"mlm": OBJECTIVES["mlm"]}, rates={"de": 1, "en": 3})
    mixture = registry.get("baton:fixed:mlm")
    assert [mixture.get_rate(task) for task in mixture.tasks] == [1, 3]
    made = blend.Blend(store=str(built), objective=OBJECTIVES["mlm"], inputs=48, alpha=0.0)
    registry.register_blend("even", made, objective_name="mlm")
    mixture = registry.get("baton:even:mlm")
    assert [mixture.get_rate(task) for task in mixture.tasks] == [0.5, 0.5]


def test_held_out_text_is_never_in_training(registered, parts):
    source = parts["de"].provider(validation=0.1)
    found = {
        split: [row["text"].decode() for row in source.get_dataset(split, shuffle=False).as_numpy_iterator()]
        for split in source.splits
    }
    held = holdout.Holdout(share=0.1)
    assert found["validation"]
    assert all(map(held.holds, found["validation"]))
    assert not any(map(held.holds, found["train"]))
    assert sorted(found["train"] + found["validation"]) == sorted(parts["de"].documents())


def test_files_and_runs_of_documents_are_shards(parts, built):
    several = sources.JsonLines(files=tuple(source.files for source in parts.values())).provider()
    assert len(several.list_shards("train")) == 2
    halves = [several.get_dataset(shuffle=False, shard_info=seqio.ShardInfo(index, 2)) for index in range(2)]
    texts = [[row["text"].decode() for row in half.as_numpy_iterator()] for half in halves]
    assert texts == [list(source.documents()) for source in parts.values()]
    with pytest.raises(ValueError, match="2 shards, not 3"):
        several.get_dataset(shard_info=seqio.ShardInfo(0, 3))
    with pytest.raises(ValueError, match="no split 'test'"):
        several.get_dataset("test")


def test_lengths_decide_the_rows_and_seqio_trims_nothing(registered):
    for lengths in ({"inputs": 48, "targets": 24}, {"inputs": 72}):
        row = rows("baton:test:causal", 1, lengths=lengths)[0]
        assert {len(value) for value in row.values()} == {72}
    with pytest.raises(ValueError, match="lack 'inputs'"):
        rows("baton:test:de:causal", 1, lengths={"targets": 24})


def test_the_built_in_corpus_registers_itself_when_asked_for():
    name = "baton:cldr:ja:mlm"
    assert name not in registry.names()
    assert rows(name, 1)[0]["weights"].sum() == 7
    assert rows("baton:cldr:mlm", 1, split="validation")[0]["weights"].sum() == 7


class BatonTiny(tfds.core.GeneratorBasedBuilder):
    """Thirty texts, some of them blank."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"body": tfds.features.Text()}))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield from ((number, {"body": f"text {number}" if number % 3 else " "}) for number in range(30))


def test_tensorflow_datasets_by_name(tmp_path):
    # tensorflow_datasets 4.9.10 imports it to prepare a data set, and does not require it on this Python.
    pytest.importorskip("importlib_resources")
    source = sources.Tfds(name="baton_tiny", key="body", data_dir=str(tmp_path))
    found = list(source.documents())
    assert sorted(found) == sorted(f"text {number}" for number in range(30) if number % 3)
    assert list(source.documents()) == found
    half = dataclasses.replace(source, split="train[:50%]")
    assert list(half.documents()) == found[: len(list(half.documents()))]
    assert half.digest() != source.digest() == dataclasses.replace(source).digest()
    examples = source.provider().get_dataset(shuffle=False).as_numpy_iterator()
    assert [example["text"].decode() for example in examples] == found
    for change, said in (
        ({"key": "text"}, "has 30 examples of body, not 'text'"),
        ({"split": "test"}, "cannot be had"),
        ({"name": "no_such_set"}, "cannot be had"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            list(dataclasses.replace(source, **change).documents())
        assert "\n" not in str(caught.value)


def test_an_unknown_name_gets_the_nearest(registered):
    with pytest.raises(ValueError, match="did you mean baton:test:span_corruption") as caught:
        registry.get("baton:test:span_coruption")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="--import"):
        registry.get("xyzzy")


def test_any_registered_task_is_had_by_name():
    source = seqio.FunctionDataSource(lambda split, shuffle_files: None, splits=("train",))
    seqio.TaskRegistry.add("users_own", source=source, preprocessors=[], output_features={})
    assert registry.get("users_own").name == "users_own"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rates": {"de": 1}}, "'en'] differ"),
        ({"parts": {}}, "needs parts and objectives"),
        ({"objectives": {}}, "needs parts and objectives"),
        ({"spelling": vocabulary.encoder("bytes", extra_ids=0)}, "objective 'mlm' needs the special id 'mask'"),
    ],
)
def test_what_cannot_be_registered(parts, options, said):
    wanted = {"parts": parts, "spelling": "bytes", "objectives": {"mlm": OBJECTIVES["mlm"]}, **options}
    with pytest.raises(ValueError) as caught:
        registry.register("wrong", **wanted)
    assert said in str(caught.value)
    assert not [name for name in registry.names() if name.startswith("baton:wrong")]

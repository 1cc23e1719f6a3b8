import logging

import numpy as np
import pytest

from tasks import blend, card, objectives, specials, writer

MANY = {"en": 400, "de": 200, "hi": 100}


@pytest.fixture(scope="module")
def store(tmp_path_factory, special, document):
    """Three parts whose tokens tell the part: en 10.., de 310.., hi 610..; and a validation split of en."""
    directory = str(tmp_path_factory.mktemp("store"))
    rng = np.random.default_rng(0)
    for number, (name, count) in enumerate(MANY.items()):
        documents = []
        for _ in range(count):
            documents.append(document(rng, 3 + int(rng.exponential(30))))
            documents[-1][:-1] = documents[-1][:-1] % 300 + 300 * number + (10 if number == 0 else 0)
        writer.write(directory, name, documents, vocabulary=card.plain(special))
    writer.write(directory, "en", [document(rng, 40)] * 9, vocabulary=card.plain(special), split="validation")
    return directory


def make(store, **changes):
    goal = changes.pop("objective", objectives.SpanCorruption())
    return blend.Blend(**{"store": store, "objective": goal, "inputs": 64, "targets": 24, **changes})


def take(data, steps, **arguments):
    feed = data.feed(**{"batch": 8, "seed": 1, **arguments})
    batches = [next(feed) for _ in range(steps)]
    feed.close()
    return batches


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


GOALS = [
    (objectives.SpanCorruption(), 24),
    (objectives.MaskedLM(), 0),
    (objectives.Denoise(), 64),
    (objectives.PrefixLM(kind="decoder"), 0),
    (
        objectives.Mixture(members=(objectives.SpanCorruption(mode="R"), objectives.PrefixLM(mode="S")), rates=(1, 1)),
        64,
    ),
]


@pytest.mark.parametrize(("goal", "targets"), GOALS, ids=lambda value: type(value).__name__)
def test_same_global_batch_whatever_the_number_of_processes(store, goal, targets):
    data = make(store, objective=goal, targets=targets)
    whole = take(data, 3)
    assert {name: (a.shape, a.dtype) for name, a in whole[0].items()} == data.spec(8)
    for count in (2, 4):
        shares = [take(data, 3, process_index=index, process_count=count) for index in range(count)]
        assert all(len(batch["part"]) == 8 // count for share in shares for batch in share)
        for step, batch in enumerate(whole):
            joined = {name: np.concatenate([share[step][name] for share in shares]) for name in batch}
            assert same(joined, batch)


def test_start_is_the_same_as_skipping(store):
    data = make(store)
    whole, late = take(data, 8), take(data, 3, start=5)
    assert all(same(a, b) for a, b in zip(whole[5:], late, strict=True))
    assert not same(whole[0], whole[5])


def test_seed_decides(store):
    data = make(store)
    one, again, other = take(data, 2), take(data, 2), take(data, 2, seed=2)
    assert all(same(a, b) for a, b in zip(one, again, strict=True)) and not same(one[0], other[0])


def test_threads_do_not_change_the_batches(store, monkeypatch):
    from tasks import feed

    data = make(store)
    one = take(data, 6)
    monkeypatch.setattr(feed, "THREADS", 1)
    assert all(same(a, b) for a, b in zip(one, take(data, 6), strict=True))


def test_rows_belong_to_their_part_and_come_by_the_rates(store):
    data = make(store, objective=objectives.CausalLM(), targets=0, rates=(("hi", 3), ("en", 1)))
    assert data.parts() == ("hi", "en")
    seen = take(data, 50)
    parts = np.concatenate([batch["part"] for batch in seen])
    assert abs((parts == 0).sum() - 300) <= 1
    tokens = np.concatenate([batch["targets"] for batch in seen])
    assert (tokens[parts == 0][tokens[parts == 0] > 9] >= 600).all()
    assert (tokens[parts == 1][tokens[parts == 1] > 9] < 310).all()


@pytest.mark.parametrize("alpha", [1.0, 0.3, 0.0])
def test_temperature_sampling(store, alpha):
    data = make(store, alpha=alpha, objective=objectives.CausalLM(), targets=0)
    assert data.parts() == ("de", "en", "hi")
    sizes = np.array([part.tokens for part in data.open()], float)
    want = sizes**alpha / (sizes**alpha).sum()
    parts = np.concatenate([batch["part"] for batch in take(data, 100)])
    assert np.abs(np.bincount(parts) - 800 * want).max() < 3
    assert data.shares(tuple(int(size) for size in sizes)) == pytest.approx(want)


def test_an_epoch_reads_every_token_but_the_last_few(store):
    data = make(store, select=("hi",), objective=objectives.CausalLM(), inputs=32, targets=0)
    (part,) = data.open()
    batches = take(data, part.tokens // 32 // 8)
    read = np.concatenate([batch["targets"].ravel() for batch in batches])
    stream = np.concatenate(part.read([0], part.tokens))
    assert part.tokens - len(read) < 32 * 9
    counts = np.bincount(stream, minlength=1000) - np.bincount(read, minlength=1000)
    assert counts.min() >= 0 and counts.sum() == part.tokens - len(read)


def test_segments_are_the_documents(store):
    data = make(store, objective=objectives.CausalLM(), targets=0)
    for batch in take(data, 5):
        ends = batch["targets"] == 1
        fresh = batch["decoder_positions"] == 0
        assert (fresh[:, 1:] == ends[:, :-1]).all()


def test_joined_documents_are_one_segment(store, special):
    apart = make(store, objective=objectives.MaskedLM(), targets=0)
    joined = make(store, objective=objectives.MaskedLM(), targets=0, separate=False)
    assert apart.separate != joined.separate
    for a, b in zip(take(apart, 3), take(joined, 3), strict=True):
        assert (b["encoder_segments"] == 1).all() and a["encoder_segments"].max() > 1
        assert (b["encoder_positions"] == np.arange(64)).all()
        between = (a["encoder_segments"][:, 1:] != a["encoder_segments"][:, :-1]).sum()
        assert (b["encoder_inputs"] == special.doc).sum() == between
        assert (b["encoder_inputs"][:, :-1] != special.eos).all()


def test_a_small_part_repeats_with_a_warning(tmp_path, special, document, caplog):
    rng = np.random.default_rng(0)
    writer.write(tmp_path, "tiny", [document(rng, 9), document(rng, 6)], vocabulary=card.plain(special))
    data = make(str(tmp_path), objective=objectives.CausalLM(), targets=0)
    with caplog.at_level(logging.WARNING):
        batches = take(data, 3)
    assert "'tiny'" in caplog.text and "15 tokens" in caplog.text
    assert all(batch["weights"].all() for batch in batches)
    assert batches[0]["decoder_segments"].max() >= 8


def test_held_out_split(store):
    data = make(store, split="validation")
    assert data.parts() == ("en",) and data.problems() == []
    assert take(data, 1)[0]["part"].tolist() == [0] * 8


def test_fingerprint_is_the_stores(store, special):
    assert make(store).fingerprint() == card.plain(special).fingerprint


def test_problems(store, tmp_path, special):
    assert make(store).problems() == []
    assert "no vocabulary.json" in make(str(tmp_path)).problems()[0]
    (problem,) = make(store, select=("en", "fr")).problems()
    assert "'fr'" in problem and "de, en, hi" in problem
    (problem,) = make(store, targets=1).problems()
    assert "SpanCorruption" in problem
    with pytest.raises(ValueError, match="SpanCorruption"):
        make(store, targets=1).feed(batch=8, seed=0)
    bare = specials.Specials(size=900)
    writer.write(tmp_path, "en", [np.array([20, 1])], vocabulary=card.plain(bare))
    found = make(str(tmp_path), objective=objectives.MaskedLM(), separate=False).problems()
    assert len(found) == 2 and "'mask'" in found[0] and "'doc'" in found[1]
    with pytest.raises(ValueError, match="'doc'"):
        make(str(tmp_path), objective=objectives.CausalLM(), separate=False).feed(batch=8, seed=0)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"rates": ()}, "each part once"),
        ({"rates": (("en", 1), ("en", 2))}, "each part once"),
        ({"rates": (("en", 0),)}, "not positive"),
        ({"rates": (("en", 1),), "select": ("en", "de")}, "differ"),
    ],
)
def test_rates_are_checked(store, bad, message):
    with pytest.raises(ValueError, match=message):
        make(store, **bad)

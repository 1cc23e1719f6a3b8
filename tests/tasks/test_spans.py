import functools

import numpy as np
import pytest

from tasks import objectives, pieces, spans


def decode(made, special):
    """Puts noise back where its sentinels stand: [text of each segment], and the noise tokens of each."""
    texts, noises = [], []
    for segment in range(1, made["encoder_segments"].max() + 1):
        read = made["encoder_inputs"][made["encoder_segments"] == segment].tolist()
        written = made["targets"][made["decoder_segments"] == segment].tolist()
        assert not read or read[-1] == special.eos
        spans_, text = {}, []
        if written:
            assert written[-1] == special.eos
            for token in written[:-1]:
                if token in special.sentinels:
                    spans_[token] = []
                else:
                    spans_[list(spans_)[-1]].append(token)
        assert tuple(spans_) == special.sentinels[: len(spans_)]
        used = [token for token in read if token in special.sentinels]
        assert tuple(used) == special.sentinels[: len(used)] and len(used) == len(spans_)
        for token in read[:-1]:
            text += spans_.get(token, [token])
        texts.append(text)
        noises.append(sum(map(len, spans_.values())))
    return texts, noises


@pytest.mark.parametrize(("mean", "targets"), [(1000, 114), (150, 114), (20, 114), (20, 200), (4, 114)])
def test_round_trip_restores_every_piece(window, special, mean, targets):
    objective = objectives.SpanCorruption()
    assert objective.window(512, targets) == 568
    for seed in range(20):
        rng = np.random.default_rng(seed)
        row = window(rng, 568, mean)
        made = objective(row, rng, inputs=512, targets=targets, specials=special)
        texts, noises = decode(made, special)
        want = [piece[: len(piece) - (piece[-1] == 1)].tolist() for piece in row]
        assert texts[:-1] == want[: len(texts) - 1]
        # The row's last tokens may be left out; the last piece that is in is then a part.
        assert texts[-1] == want[len(texts) - 1][: len(texts[-1])]
        # Less noise makes longer inputs: for each EOS more than one, about a token is left out.
        assert sum(map(len, want)) - sum(map(len, texts)) <= 1.5 * len(row) - 1
        for text, noise in zip(texts, noises, strict=True):
            assert noise <= max(1, round(0.15 * len(text) + 0.01))


def test_long_pieces_get_the_reference_counts(window, special):
    row = [np.arange(10, 578).astype(np.int32) % 800 + 10]
    made = objectives.SpanCorruption()(row, np.random.default_rng(0), inputs=512, targets=114, specials=special)
    assert (made["encoder_segments"] == 1).all() and (made["decoder_segments"] == 1).all()
    assert decode(made, special)[1] == [85]
    assert made["weights"].sum() == 114 and made["weights"].dtype == np.float32


def test_no_piece_loses_every_time(special, document):
    # 40 pieces of 14 tokens want 4 slots each and there are 114.
    rng = np.random.default_rng(0)
    row = [document(rng, 14) for _ in range(40)]
    noised = np.zeros(40)
    for seed in range(300):
        generator = np.random.default_rng(seed)
        made = objectives.SpanCorruption()(row, generator, inputs=600, targets=114, specials=special)
        # Two slots are left over: too few for a sentinel, a token and EOS.
        assert (made["decoder_segments"] > 0).sum() == 112
        noised[np.unique(made["decoder_segments"][made["decoder_segments"] > 0]) - 1] += 1
    assert noised.sum() == 300 * 28
    share = noised.mean() / 300
    assert np.abs(noised - noised.mean()).max() < 5 * (300 * share * (1 - share)) ** 0.5


def test_the_piece_at_the_budgets_edge_is_shrunk():
    noise, few = spans.shrink(np.array([10, 10, 10, 1]), np.array([3, 3, 3, 1]), np.array([14, 9, 2, 0]), 3.0, 100)
    assert noise.tolist() == [10, 6, 0, 0] and few.tolist() == [3, 2, 0, 0]


def test_sentinels_that_run_out_make_longer_spans(special, window):
    import dataclasses

    few = dataclasses.replace(special, sentinels=special.sentinels[:5])
    row = [window(np.random.default_rng(0), 568, 1e6)[0]]
    made = objectives.SpanCorruption()(row, np.random.default_rng(0), inputs=512, targets=114, specials=few)
    texts, noises = decode(made, few)
    assert texts == [row[0].tolist()] and noises == [85]


def test_decoder_shift_and_links(special, window):
    row = window(np.random.default_rng(0), 568, 60)
    made = objectives.SpanCorruption()(row, np.random.default_rng(0), inputs=512, targets=114, specials=special)
    for segment in np.unique(made["decoder_segments"])[1:]:
        at = made["decoder_segments"] == segment
        written, read = made["targets"][at], made["decoder_inputs"][at]
        assert read[0] == special.start and (read[1:] == written[:-1]).all()
        assert made["decoder_positions"][at].tolist() == list(range(at.sum()))
        inside = made["encoder_segments"] == segment
        assert made["encoder_positions"][inside].tolist() == list(range(inside.sum()))
    assert ((made["weights"] > 0) == (made["decoder_segments"] > 0)).all()


def test_mode_token_opens_each_piece(special, window):
    objective = objectives.SpanCorruption(mode="R")
    assert objective.window(512, 114) == 567
    row = window(np.random.default_rng(0), 567, 60)
    made = objective(row, np.random.default_rng(0), inputs=512, targets=114, specials=special)
    first = (made["encoder_positions"] == 0) & (made["encoder_segments"] > 0)
    assert (made["encoder_inputs"][first] == special.modes["R"]).all()
    assert ((made["encoder_inputs"] == special.modes["R"]) == first).all()


def test_for_a_decoder_alone_the_inputs_are_the_prefix(special, window):
    alone = objectives.SpanCorruption(kind="decoder")
    length = 300
    assert alone.window(length, 0) < length
    row = window(np.random.default_rng(0), alone.window(length, 0), 80)
    made = alone(row, np.random.default_rng(0), inputs=length, targets=0, specials=special)
    pair = objectives.SpanCorruption()(row, np.random.default_rng(0), inputs=300, targets=300, specials=special)
    assert alone.kind != objectives.SpanCorruption().kind
    for segment in np.unique(made["decoder_segments"])[1:-1]:
        at = made["decoder_segments"] == segment
        read = pair["encoder_inputs"][pair["encoder_segments"] == segment]
        written = pair["targets"][pair["decoder_segments"] == segment]
        assert made["targets"][at].tolist() == [*read, *written]
        assert made["weights"][at].tolist() == [0.0] * len(read) + [1.0] * len(written)
        assert made["decoder_prefix"][at].sum() == min(len(read) + 1, at.sum())


@pytest.mark.parametrize(("ends", "ways"), [(0, 2 * 3), (1, 2 * 10)])
def test_all_masks_are_equally_likely(ends, ways):
    # 3 noise tokens in 2 spans among 4 clean: 2 ways to cut the noise, times 3 ways to cut the rest into 2 runs, or 10
    # into 3 of which the first and the last may be empty.
    rows = 1000 * ways
    seen: dict[str, int] = {}
    drawn, heads = np.random.default_rng(0).random(9 * rows), 9 * np.arange(rows)
    mask = spans.random_mask(np.full(rows, 7), np.full(rows, 3), np.full(rows, 2), drawn, heads, ends=ends).reshape(
        -1, 7
    )
    for one in mask:
        key = "".join("01"[int(bit)] for bit in one)
        seen[key] = seen.get(key, 0) + 1
    assert len(seen) == ways
    assert all(key.count("1") == 3 and key.strip("0").count("0") for key in seen)
    assert ends or all(key[0] == "0" and key[-1] == "1" for key in seen)
    assert max(abs(count - 1000) for count in seen.values()) < 5 * (1000 * (1 - 1 / ways)) ** 0.5


@pytest.mark.parametrize("ends", [0, 1])
def test_masks_of_many_pieces_have_their_counts(ends):
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 60, 500)
    noise, few = spans.counts(lengths, 0.3, 2.0, 100)
    noise[::7] = 0
    few = np.where(noise == 0, 0, few)
    heads = np.cumsum(lengths + 2) - (lengths + 2)
    mask = spans.random_mask(lengths, noise, few, rng.random(int((lengths + 2).sum())), heads, ends=ends)
    for one, want, runs in zip(np.split(mask, np.cumsum(lengths)[:-1]), noise, few, strict=True):
        assert one.sum() == want and (np.diff(one.astype(int), prepend=0) == 1).sum() == runs


def test_short_sentences_are_not_always_cut_at_the_end(special, document):
    row = [document(np.random.default_rng(0), 11) for _ in range(20)]
    last = {"t5": 0, "anywhere": 0}
    for placement in last:
        objective = objectives.SpanCorruption(placement=placement)
        for seed in range(20):
            made = objective(row, np.random.default_rng(seed), inputs=300, targets=200, specials=special)
            ends = np.flatnonzero(made["encoder_inputs"] == 1)
            last[placement] += (made["encoder_inputs"][ends - 1] == special.sentinels[0]).sum()
    # Two tokens in one span among eight clean ones have nine places.
    assert last["t5"] == 400 and abs(last["anywhere"] - 400 / 9) < 5 * (400 / 9) ** 0.5


@pytest.fixture(scope="module")
def reference():
    """t5's own preprocessors."""
    t5 = pytest.importorskip("t5.data.preprocessors")
    return t5


class _Vocabulary:
    vocab_size = 1000


def test_equal_to_t5_on_the_same_mask(reference, special):
    import tensorflow as tf

    for seed, length in enumerate((2, 3, 7, 20, 100, 568)):
        tokens = np.random.default_rng(seed).integers(10, 900, length).astype(np.int32)
        for density, mean in ((0.15, 3.0), (0.5, 3.0), (0.5, 8.0), (0.15, 64.0)):
            mask = reference.random_spans_noise_mask(
                tf.constant(length), density, tf.constant([[seed, 1], [seed, 2]]), mean
            ).numpy()
            # The counts are t5's: noise tokens, and spans.
            noise, few = spans.counts(np.array([length]), density, mean, 100)
            assert (noise[0], few[0]) == (mask.sum(), (np.diff(mask, prepend=False) & mask).sum())
            found = spans.replace(pieces.Pieces.of([[tokens]]), mask, np.array(special.sentinels))
            for got, theirs in zip(found, ("noise_span_to_unique_sentinel", "nonnoise_span_to_unique_sentinel")):
                want = getattr(reference, theirs)(tf.constant(tokens), tf.constant(mask), _Vocabulary(), None).numpy()
                assert got.tokens.tolist() == want.tolist() and got.lengths.tolist() == [len(want)]


@pytest.mark.parametrize(("length", "inputs", "targets"), [(568, 512, 114), (141, 128, 30), (7, 128, 30)])
def test_a_row_of_one_piece_is_what_t5_makes(reference, special, monkeypatch, length, inputs, targets):
    import tensorflow as tf

    tokens = np.random.default_rng(length).integers(10, 900, length).astype(np.int32)
    mask = reference.random_spans_noise_mask(tf.constant(length), 0.15, tf.constant([[1, 2], [3, 4]]), 3.0)
    monkeypatch.setattr(spans, "random_mask", lambda *arguments, ends: mask.numpy())
    made = objectives.SpanCorruption(placement="t5")(
        [tokens], np.random.default_rng(0), inputs=inputs, targets=targets, specials=special
    )
    for name, theirs in (
        ("encoder_inputs", reference.noise_span_to_unique_sentinel),
        ("targets", reference.nonnoise_span_to_unique_sentinel),
    ):
        want = [*theirs(tf.constant(tokens), mask, _Vocabulary(), None).numpy().tolist(), special.eos]
        assert made[name].tolist() == want + [special.pad] * (len(made[name]) - len(want))


def test_pieces_are_replaced_one_by_one(special):
    rng = np.random.default_rng(0)
    parts = [rng.integers(10, 900, n).astype(np.int32) for n in (5, 0, 9, 1, 30)]
    mask = rng.random(45) < 0.5
    sentinels = np.array(special.sentinels)
    together = spans.replace(pieces.Pieces.of([parts]), mask, sentinels)
    alone, at = [], 0
    for part in parts:
        alone.append(spans.replace(pieces.Pieces.of([[part]]), mask[at : at + len(part)], sentinels))
        at += len(part)
    for side, made in enumerate(together):
        assert made.lengths.tolist() == [len(one[side].tokens) for one in alone]
        assert made.tokens.tolist() == np.concatenate([one[side].tokens for one in alone]).tolist()


@pytest.mark.parametrize("inputs", [64, 128, 512, 513, 1024])
@pytest.mark.parametrize(("density", "mean"), [(0.15, 3.0), (0.15, 8.0), (0.5, 32.0), (0.3, 2.0)])
def test_window_is_that_of_t5(reference, inputs, density, mean):
    helper = functools.partial(
        reference.random_spans_helper, extra_tokens_per_span_inputs=1, extra_tokens_per_span_targets=1
    )
    tokens, targets = helper(inputs_length=inputs, noise_density=density, mean_noise_span_length=mean)
    objective = objectives.SpanCorruption(density=density, mean_span=mean)
    assert objective.window(inputs, targets) == tokens
    # With density 0.5 t5 takes a token less than fits, so that the targets are as long as the inputs.
    assert objective.window(inputs, targets - 2) < tokens


def test_too_small_is_a_problem(special):
    (problem,) = objectives.SpanCorruption().problems(inputs=512, targets=2, specials=special)
    assert "inputs=512" in problem and "targets=2" in problem
    with pytest.raises(ValueError, match="density"):
        objectives.SpanCorruption(density=1.5)
    with pytest.raises(ValueError, match="kind"):
        objectives.SpanCorruption(kind="encoder")

import numpy as np
import pytest

from tasks import objectives


def test_causal_rows_are_the_stream_shifted(window, special):
    objective = objectives.CausalLM()
    assert objective.kind == "decoder" and objective.window(256, 0) == 256
    row = window(np.random.default_rng(0), 256, 50)
    made = objective(row, np.random.default_rng(0), inputs=256, targets=0, specials=special)
    assert made["targets"].tolist() == np.concatenate(row).tolist()
    assert made["weights"].all() and "decoder_prefix" not in made
    first = made["decoder_positions"] == 0
    assert (made["decoder_inputs"][first] == special.start).all() and first.sum() == len(row)
    assert (made["decoder_inputs"][1:][~first[1:]] == made["targets"][:-1][~first[1:]]).all()
    assert made["decoder_segments"].tolist() == np.repeat(np.arange(len(row)) + 1, [len(p) for p in row]).tolist()


def test_causal_for_an_encoder_decoder_reads_nothing(window, special):
    objective = objectives.CausalLM(kind="encdec", mode="X")
    assert objective.window(64, 256) == 255
    row = window(np.random.default_rng(0), 200, 50)
    made = objective(row, np.random.default_rng(0), inputs=64, targets=256, specials=special)
    for number, piece in enumerate(row):
        text = piece[piece != 1].tolist()
        read = made["encoder_inputs"][made["encoder_segments"] == number + 1].tolist()
        written = made["targets"][made["decoder_segments"] == number + 1].tolist()
        assert (read, written) == (([special.modes["X"], 1], [*text, 1]) if text else ([], []))


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.75, 0.75), (0.2, 0.4)])
def test_prefix_and_rest_make_the_text(window, special, low, high):
    objective = objectives.PrefixLM(low=low, high=high)
    length = objective.window(128, 128)
    # Both sides hold one EOS besides their part.
    assert int(high * length) + 1 <= 128 and length - int(low * length) + 1 <= 128
    assert int(high * (length + 1)) + 1 > 128 or length + 1 - int(low * (length + 1)) + 1 > 128
    for seed in range(10):
        rng = np.random.default_rng(seed)
        row = window(rng, length, 40)
        made = objective(row, rng, inputs=128, targets=128, specials=special)
        seen = 0
        for number, piece in enumerate(row):
            text = piece[piece != 1].tolist()
            read = made["encoder_inputs"][made["encoder_segments"] == number + 1].tolist()
            written = made["targets"][made["decoder_segments"] == number + 1].tolist()
            if not written:
                continue
            assert read[-1] == written[-1] == 1
            both = read[:-1] + written[:-1]
            assert both == text[: len(both)]
            seen += len(both)
            assert int(low * len(both)) <= len(read) - 1 <= high * len(both)
        assert seen > 0.8 * (length - 2 * len(row))


def test_prefix_of_a_decoder_alone_is_seen_both_ways_and_carries_no_loss(window, special):
    objective = objectives.PrefixLM(kind="decoder", low=0.5, high=0.5)
    assert objective.window(128, 0) == 128 and objective.spec(4, 128, 0)["decoder_prefix"][0] == (4, 128)
    row = window(np.random.default_rng(1), 128, 30)
    made = objective(row, np.random.default_rng(0), inputs=128, targets=0, specials=special)
    assert made["targets"].tolist() == np.concatenate(row).tolist()
    for number, piece in enumerate(row):
        at = made["decoder_segments"] == number + 1
        given = len(piece) // 2
        assert made["weights"][at].tolist() == [0.0] * given + [1.0] * (len(piece) - given)
        # The input that holds the last given token is one to the right of it.
        both = given + 1 if given else 0
        assert made["decoder_prefix"][at].tolist() == [1] * both + [0] * (len(piece) - both)


def test_same_as_seqio_prefix_converter(special):
    seqio = pytest.importorskip("seqio")
    import tensorflow as tf

    text = np.arange(10, 20).astype(np.int32)
    made = objectives.PrefixLM(kind="decoder", low=0.4, high=0.4)(
        [text], np.random.default_rng(0), inputs=12, targets=0, specials=special
    )
    pair = {"inputs": text[:4], "targets": text[4:]}
    converter = seqio.PrefixLMFeatureConverter(pack=False)
    dataset = converter(tf.data.Dataset.from_tensors(pair), task_feature_lengths={"inputs": 4, "targets": 8})
    (want,) = dataset.as_numpy_iterator()
    # Behind the end seqio's shift leaves one token that nothing reads.
    assert made["decoder_inputs"][:10].tolist() == want["decoder_input_tokens"][:10].tolist()
    assert made["targets"].tolist() == want["decoder_target_tokens"].tolist()
    assert made["weights"].tolist() == want["decoder_loss_weights"].tolist()
    assert made["decoder_prefix"].tolist() == want["decoder_causal_attention"].tolist()


@pytest.mark.parametrize("bad", [{"low": 1.0}, {"low": 0.6, "high": 0.5}, {"high": 1.5}])
def test_shares_are_checked(bad):
    with pytest.raises(ValueError, match="PrefixLM"):
        objectives.PrefixLM(**bad)

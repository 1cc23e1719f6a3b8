import numpy as np
import pytest

from tasks import denoising, objectives


@pytest.mark.parametrize("mean", [1000, 60, 8])
@pytest.mark.parametrize("replacement", ["drop", "mask"])
def test_whole_text_is_the_target_and_the_input_its_remains(window, special, mean, replacement):
    objective = objectives.Denoise(replacement=replacement)
    length = objective.window(256, 256)
    assert length == 255
    for seed in range(20):
        rng = np.random.default_rng(seed)
        row = window(rng, length, mean)
        made = objective(row, rng, inputs=256, targets=256, specials=special)
        for number, piece in enumerate(row):
            text = piece[: len(piece) - (piece[-1] == 1)].tolist()
            at = made["decoder_segments"] == number + 1
            if not text:
                assert not at.any()
                continue
            assert made["targets"][at].tolist() == [*text, special.eos]
            assert made["weights"][at].all() and made["decoder_inputs"][at][0] == special.start
            read = made["encoder_inputs"][made["encoder_segments"] == number + 1].tolist()
            assert read[-1] == special.eos
            rest = iter(text)
            # What is read is a subsequence of the text, but for masks.
            assert all(any(token == other for other in rest) for token in read[:-1] if token != special.mask)
            assert (special.mask in read) <= (replacement == "mask")


def test_rate_of_noise_and_mean_of_spans(special, document):
    objective = objectives.Denoise(density=0.2, mean_span=3.0, replacement="mask")
    clean = spans = total = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        row = [document(rng, 7), document(rng, 93), document(rng, 155)]
        made = objective(row, rng, inputs=256, targets=256, specials=special)
        read = made["encoder_inputs"][made["encoder_segments"] > 0]
        spans += (read == special.mask).sum()
        clean += (read >= 10).sum()
        total += 252
    # Each row's count is off by less than one token a piece, without bias.
    assert abs((total - clean) / total - 0.2) < 0.002
    # A piece's last span is cut short; those of length 0 count.
    assert 2.6 < (total - clean) / spans < 3.1


def test_short_pieces_have_noise_as_often_as_long_ones(special):
    row = [np.array([20, 21, 1], np.int32)] * 20
    seen = 0
    for seed in range(500):
        made = objectives.Denoise()(row, np.random.default_rng(seed), inputs=64, targets=64, specials=special)
        seen += (made["encoder_inputs"] >= 10).sum()
    mean, deviation = 20000 * 0.85, (10000 * 0.3 * 0.7) ** 0.5
    assert abs(seen - mean) < 5 * deviation


def test_spans_lie_anywhere_alike(special):
    row = [np.arange(10, 30).astype(np.int32)]
    dropped = np.zeros(20)
    for seed in range(3000):
        made = objectives.Denoise(density=0.15, mean_span=3.0)(
            row, np.random.default_rng(seed), inputs=32, targets=32, specials=special
        )
        dropped += ~np.isin(row[0], made["encoder_inputs"])
    # A span reaches the ends less often than the middle, by nature; both halves are alike.
    assert dropped.sum() == 3000 * 3
    assert abs(dropped[:10].sum() - dropped[10:].sum()) < 5 * (9000 * 3) ** 0.5
    assert dropped.min() > 0.4 * dropped.max()


def test_poisson_lengths():
    edges = denoising._poisson(3.0)
    drawn = np.searchsorted(edges, np.random.default_rng(0).random(100_000), side="right")
    assert abs(drawn.mean() - 3) < 0.03 and abs(drawn.var() - 3) < 0.08


def test_inputs_may_be_shorter_than_targets(window, special):
    objective = objectives.Denoise()
    length = objective.window(220, 256)
    assert 250 <= length <= 255
    row = window(np.random.default_rng(0), length, 100)
    made = objective(row, np.random.default_rng(0), inputs=220, targets=256, specials=special)
    assert made["encoder_inputs"].shape == (220,)


def test_decoder_alone_and_mode(window, special):
    objective = objectives.Denoise(kind="decoder", mode="S")
    length = objective.window(200, 200)
    row = window(np.random.default_rng(0), length, 50)
    made = objective(row, np.random.default_rng(0), inputs=200, targets=200, specials=special)
    assert made["targets"].shape == (400,) and (made["decoder_segments"] > 0).mean() > 0.9
    for number in range(1, made["decoder_segments"].max() + 1):
        at = made["decoder_segments"] == number
        assert made["targets"][at][0] == special.modes["S"]
        text = row[number - 1][row[number - 1] != 1].tolist()
        written = made["targets"][at & (made["weights"] > 0)].tolist()
        assert written[-1] == special.eos and written[:-1] == text[: len(written) - 1]
        assert made["decoder_prefix"][at].sum() == (at & (made["weights"] == 0)).sum() + 1


@pytest.mark.parametrize("bad", [{"density": 0}, {"mean_span": 0}, {"replacement": "delete"}])
def test_settings_are_checked(bad):
    with pytest.raises(ValueError, match="Denoise"):
        objectives.Denoise(**bad)

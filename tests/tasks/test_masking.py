import numpy as np
import pytest

from tasks import objectives, specials


@pytest.fixture
def rows(window):
    rng = np.random.default_rng(0)
    return [window(rng, 256, 40) for _ in range(60)]


def run(objective, rows, special, inputs=256):
    return [
        objective(row, np.random.default_rng(number), inputs=inputs, targets=0, specials=special)
        for number, row in enumerate(rows)
    ]


def test_exactly_the_rate_is_chosen_and_all_of_it_has_weight(rows, special):
    for row, made in zip(rows, run(objectives.MaskedLM(), rows, special), strict=True):
        flat = np.concatenate(row)
        assert made["weights"].tolist() == [1.0] * 38
        assert (np.diff(made["target_positions"]) > 0).all()
        assert (flat[made["target_positions"]] == made["targets"]).all()
        untouched = np.ones(256, bool)
        untouched[made["target_positions"]] = False
        assert (made["encoder_inputs"][untouched] == flat[untouched]).all()


def test_special_ids_are_never_chosen_nor_written(rows, special):
    ids = set(special.named().values()) - {special.unk}
    for row, made in zip(rows, run(objectives.MaskedLM(rate=0.5), rows, special), strict=True):
        assert not ids & set(made["targets"].tolist())
        written = made["encoder_inputs"][made["target_positions"]]
        assert not (ids - {special.mask}) & set(written.tolist())
        assert (made["encoder_inputs"] == 1).sum() == (np.concatenate(row) == 1).sum()


def test_shares_of_mask_random_and_keep(rows, special):
    made = run(objectives.MaskedLM(rate=0.3), rows, special)
    written = np.concatenate([m["encoder_inputs"][m["target_positions"]] for m in made])
    answers = np.concatenate([m["targets"] for m in made])
    count = len(answers)
    for share, seen in ((0.8, written == special.mask), (0.1, written == answers)):
        # A random id equals the original once in 900 times.
        assert abs(seen.sum() - share * count) < 4 * (count * share * (1 - share)) ** 0.5 + 0.1 * count / 900


@pytest.mark.parametrize(("shares", "what"), [((1, 0, 0), "mask"), ((0, 1, 0), "random"), ((0, 0, 1), "keep")])
def test_pure_shares(rows, special, shares, what):
    objective = objectives.MaskedLM(mask=shares[0], random=shares[1], keep=shares[2])
    for made in run(objective, rows[:5], special):
        written = made["encoder_inputs"][made["target_positions"]]
        same = {"mask": written == special.mask, "keep": written == made["targets"]}.get(what)
        assert (written != made["targets"]).mean() > 0.9 if same is None else same.all()


def test_every_position_is_chosen_alike(window, special):
    row = [window(np.random.default_rng(1), 20, 1000)[0]]
    hits = np.zeros(20)
    for number in range(2000):
        made = objectives.MaskedLM(rate=0.2)(row, np.random.default_rng(number), inputs=20, targets=0, specials=special)
        hits[made["target_positions"]] += 1
    assert np.abs(hits - 2000 * 0.2).max() < 5 * (2000 * 0.2 * 0.8) ** 0.5


def test_spans_are_runs_of_neighbours_as_many_tokens_as_before(rows, special):
    single, spans = (run(objectives.MaskedLM(span=span), rows, special) for span in (1, 3))

    def runs(made):
        """Runs of chosen neighbours in a row; what a special id parts counts twice."""
        return 1 + (np.diff(made["target_positions"]) > 1).sum()

    for one, several, row in zip(single, spans, rows, strict=True):
        flat = np.concatenate(row)
        assert one["weights"].sum() == several["weights"].sum() == 38
        assert (flat[several["target_positions"]] == several["targets"]).all()
    # Of 38 tokens 12 spans and a rest; two that touch make one run, a special id or an end of the row makes one more.
    assert np.mean([runs(made) for made in spans]) == pytest.approx(12.5, abs=1.5)
    assert np.mean([runs(made) for made in single]) > 28
    starts = np.concatenate([made["target_positions"][:1] % 3 for made in spans])
    assert set(starts.tolist()) == {0, 1, 2}


def test_short_rows_pad_the_slots_behind(special):
    row = [np.array([20, 1], np.int32), np.array([21, 22, 1], np.int32)]
    made = objectives.MaskedLM(rate=0.5)(row, np.random.default_rng(0), inputs=16, targets=0, specials=special)
    assert made["weights"].tolist() == [1.0] * 3 + [0.0] * 5
    assert made["targets"].tolist() == [20, 21, 22] + [special.pad] * 5
    assert made["target_positions"].tolist() == [0, 2, 3] + [0] * 5
    assert made["encoder_segments"].tolist() == [1, 1, 2, 2, 2] + [0] * 11
    assert made["encoder_positions"].tolist() == [0, 1, 0, 1, 2] + [0] * 11
    if made["encoder_inputs"][0] == 20:
        assert made["encoder_inputs"][0] == made["targets"][0]


def test_beside_the_masks_the_decoder_reads_the_text_one_place_to_the_right(rows, special):
    plain, made = (run(kind(rate=0.3), rows, special, 280) for kind in (objectives.MaskedLM, objectives.RestoreText))
    for row, masked, both in zip(rows, plain, made, strict=True):
        assert both.keys() - masked.keys() == {f"decoder_{name}" for name in ("inputs", "segments", "positions")}
        assert all((both[name] == masked[name]).all() for name in masked)
        expected = np.concatenate([np.append(special.start, piece[:-1]) for piece in row])
        assert (both["decoder_inputs"][:256] == expected).all() and (both["decoder_inputs"][256:] == special.pad).all()
        for name in ("segments", "positions"):
            assert (both[f"decoder_{name}"] == both[f"encoder_{name}"]).all()


def test_problems_name_what_the_vocabulary_lacks():
    plain = specials.Specials(size=50)
    (problem,) = objectives.MaskedLM().problems(inputs=64, targets=0, specials=plain)
    assert "'mask'" in problem and "MaskedLM" in problem
    assert objectives.MaskedLM(mask=0, random=0.5, keep=0.5).problems(inputs=64, targets=0, specials=plain) == []


@pytest.mark.parametrize(
    "bad", [{"span": 0}, {"rate": 0}, {"rate": 1.0}, {"mask": 0.9}, {"mask": 1.1, "random": -0.2, "keep": 0.1}]
)
def test_rates_are_checked(bad):
    with pytest.raises(ValueError, match="MaskedLM"):
        objectives.MaskedLM(**bad)

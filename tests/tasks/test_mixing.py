import pathlib

import numpy as np
import pytest

from tasks import objectives, pieces


@pytest.fixture
def mixture():
    return objectives.Mixture(
        members=(
            objectives.SpanCorruption(mode="R"),
            objectives.SpanCorruption(density=0.5, mode="X"),
            objectives.PrefixLM(low=0.75, high=0.75, mode="S"),
        ),
        rates=(2.0, 1.0, 1.0),
    )


def test_rates_and_mode_tokens(mixture, window, special):
    length = mixture.window(128, 128)
    assert length == min(member.window(128, 128) for member in mixture.members)
    assert len({member.window(128, 128) for member in mixture.members}) > 1
    rng = np.random.default_rng(0)
    rows = pieces.Pieces.of([window(rng, length, 60) for _ in range(600)])
    rngs = [np.random.default_rng(seed) for seed in range(600)]
    made = mixture.rows(rows, rngs, inputs=128, targets=128, specials=special)
    names = {number: name for name, number in special.modes.items()}
    seen = [names[number] for number in made["encoder_inputs"][:, 0].tolist()]
    for name, rate in (("R", 0.5), ("X", 0.25), ("S", 0.25)):
        assert abs(seen.count(name) - 600 * rate) < 4 * (600 * rate * (1 - rate)) ** 0.5


def test_a_row_is_its_members_row(mixture, window, special):
    length = mixture.window(128, 128)
    for seed in range(10):
        row = window(np.random.default_rng(seed), length, 60)
        made = mixture(row, np.random.default_rng(seed), inputs=128, targets=128, specials=special)
        rng = np.random.default_rng(seed)
        (number,) = mixture.choose([rng])
        own = mixture.members[number](row, rng, inputs=128, targets=128, specials=special)
        assert made.keys() == own.keys() and all((made[name] == own[name]).all() for name in own)


def test_arrays_of_some_members_are_zero_in_the_others(window, special):
    mixture = objectives.Mixture(
        members=(objectives.CausalLM(), objectives.PrefixLM(kind="decoder", low=0.5, high=0.5)), rates=(1, 1)
    )
    assert "decoder_prefix" in mixture.spec(2, 64, 0)
    rng = np.random.default_rng(0)
    rows = pieces.Pieces.of([window(rng, 64, 1000) for _ in range(20)])
    made = mixture.rows(rows, [np.random.default_rng(s) for s in range(20)], inputs=64, targets=0, specials=special)
    causal = mixture.choose([np.random.default_rng(s) for s in range(20)]) == 0
    assert 0 < causal.sum() < 20
    assert (made["decoder_prefix"].any(1) == ~causal).all()


def test_refuses_what_does_not_go_together():
    with pytest.raises(ValueError, match="kinds"):
        objectives.Mixture(members=(objectives.CausalLM(), objectives.SpanCorruption()), rates=(1, 1))
    with pytest.raises(ValueError, match="2 members have 1 rates"):
        objectives.Mixture(members=(objectives.CausalLM(), objectives.CausalLM()), rates=(1,))
    uneven = objectives.Mixture(members=(objectives.MaskedLM(), objectives.MaskedLM(rate=0.4)), rates=(1, 1))
    with pytest.raises(ValueError, match="equal rates"):
        uneven.spec(2, 64, 0)
    (problem,) = uneven.problems(inputs=64, targets=0)
    assert "equal rates" in problem


def test_the_shipped_ul2_mixture(special, window, tmp_path):
    import gin

    root = pathlib.Path(__file__).parents[2]
    overlay = tmp_path / "use.gin"
    overlay.write_text(
        "from __gin__ import dynamic_registration\nfrom tasks import blend\nfrom tasks import objectives\n"
        f"include '{root}/gin/objectives/ul2.gin'\nblend.Blend:\n  store = 'none'\n  inputs = 512\n  targets = 512\n"
        "  objective = @objectives.Mixture()\n"
    )
    try:
        gin.parse_config_file(str(overlay))
        mixture = gin.get_configurable("blend.Blend")().objective
    finally:
        gin.clear_config()
    assert [getattr(member, "mean_span", None) for member in mixture.members] == [3, 8, 3, 8, 64, 64, None]
    assert [member.mode for member in mixture.members] == ["R", "R", "X", "X", "X", "X", "S"]
    assert mixture.problems(inputs=512, targets=512, specials=special) == []
    length = mixture.window(512, 512)
    assert length == 567
    row = window(np.random.default_rng(0), length, 200)
    for seed in range(8):
        made = mixture(row, np.random.default_rng(seed), inputs=512, targets=512, specials=special)
        assert made["weights"].sum() > 80

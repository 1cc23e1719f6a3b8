"""What every objective has in common."""

import dataclasses
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tasks import objectives, pieces

ALL = [
    objectives.MaskedLM(),
    objectives.SpanCorruption(),
    objectives.SpanCorruption(kind="decoder", density=0.5, mode="X"),
    objectives.Denoise(),
    objectives.Denoise(replacement="mask", kind="decoder"),
    objectives.CausalLM(),
    objectives.CausalLM(kind="encdec"),
    objectives.PrefixLM(),
    objectives.PrefixLM(kind="decoder"),
    objectives.RestoreText(),
    objectives.Mixture(members=(objectives.SpanCorruption(), objectives.Denoise()), rates=(1, 1)),
]


@pytest.fixture(params=ALL, ids=lambda objective: f"{type(objective).__name__}-{objective.kind}")
def objective(request):
    return request.param


@pytest.fixture
def rows(objective, window):
    rng = np.random.default_rng(0)
    length = objective.window(128, 96)
    return [window(rng, length, mean) for mean in (1000, 30, 6, 60, 2)]


def batch(objective, rows, special, seeds):
    rngs = [np.random.default_rng(seed) for seed in seeds]
    return objective.rows(pieces.Pieces.of(rows), rngs, inputs=128, targets=96, specials=special)


def test_spec_is_what_is_made(objective, rows, special):
    made = batch(objective, rows, special, range(5))
    assert {name: (a.shape, a.dtype) for name, a in made.items()} == objective.spec(5, 128, 96)
    assert objective.problems(inputs=128, targets=96, specials=special) == []


def test_fixed_seed_fixed_output(objective, rows, special):
    made, again, other = (batch(objective, rows, special, range(k, k + 5)) for k in (0, 0, 7))
    assert all((made[name] == again[name]).all() for name in made)
    if not isinstance(objective, objectives.CausalLM):
        assert any((made[name] != other[name]).any() for name in made)


def test_a_row_does_not_depend_on_the_rows_beside_it(objective, rows, special):
    made = batch(objective, rows, special, range(5))
    for number, row in enumerate(rows):
        alone = objective(row, np.random.default_rng(number), inputs=128, targets=96, specials=special)
        assert all((made[name][number] == alone[name]).all() for name in made)


def test_padding_and_segments_agree(objective, rows, special):
    made = batch(objective, rows, special, range(5))
    for side in ("encoder", "decoder"):
        if f"{side}_inputs" not in made:
            continue
        segments, positions = made[f"{side}_segments"], made[f"{side}_positions"]
        assert (made[f"{side}_inputs"][segments == 0] == special.pad).all()
        for row in segments:
            used = row[row > 0]
            # One run a segment, in order, padding behind.
            assert (np.diff(used) >= 0).all() and (row[: len(used)] > 0).all()
        assert (positions[:, 1:][segments[:, 1:] != segments[:, :-1]] == 0).all()
    if "target_positions" not in made:
        assert (made["weights"] <= (made["decoder_segments"] > 0)).all()
        assert set(np.unique(made["weights"]).tolist()) <= {0.0, 1.0}
    if objective.kind == "encdec":
        for read, written in zip(made["encoder_segments"], made["decoder_segments"], strict=True):
            assert set(written.tolist()) <= {0, *read.tolist()}


def test_empty_and_tiny_pieces(objective, special):
    row = [np.array([1], np.int32), np.array([20, 1], np.int32), np.array([30, 31, 1], np.int32), np.array([40])]
    made = objective(row, np.random.default_rng(0), inputs=128, targets=96, specials=special)
    assert made.keys() == objective.spec(1, 128, 96).keys()


def test_frozen_and_by_keyword(objective):
    field = dataclasses.fields(objective)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(objective, field, 1)
    with pytest.raises(TypeError):
        type(objective)(0.3)


def test_importing_costs_numpy_alone():
    code = (
        "import sys\nfrom tasks import blend, objectives\n"
        "heavy = {'tensorflow', 'seqio', 't5', 'jax', 'grain', 'tensorstore'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "from tasks import feed\n"
        "heavy = {'tensorflow', 'seqio', 't5'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    root = pathlib.Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)

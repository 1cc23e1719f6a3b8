"""Linear CKA against its definition on whole Gram matrices, and what it may not see."""

import jax.numpy as jnp
import numpy as np
import pytest

from recipes import cka

TOKENS = 90


def draw(seed, width, layers=1):
    """States [K, B, L, D] of two batches, and which of their places are tokens; the padding holds large numbers."""
    rng = np.random.default_rng(seed)
    real = np.ones((2, 6, 10), bool)
    real[:, :, 7:] = False
    real[1, 0, 6] = real[0, 2, 0] = False
    states = rng.normal(size=(2, layers, 6, 10, width)) * np.linspace(0.2, 3, width) + rng.normal(size=width)
    return states + np.where(real, 0, 1e3)[:, None, :, :, None], real


def similarity(x, y, real):
    """As forgetting asks for it: sums over the first pass, then over the second."""
    batches = [
        (jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32), jnp.asarray(r)) for a, b, r in zip(x, y, real)
    ]
    sums = [[cka.totals(batch[side], batch[2]) for batch in batches] for side in (0, 1)]
    means = [sum(one["sum"] for one in own) / sum(one["count"] for one in own) for own in sums]
    made = [cka.products(a, b, means, r) for a, b, r in batches]
    return cka.values({name: sum(one[name] for one in made) for name in made[0]}, float(real.sum()))


def direct(x, y, real):
    """Song et al.'s unbiased HSIC, as their equation has it: with the kernels' diagonals at zero."""

    def hsic(a, b):
        k, m = (of @ of.T * (1 - np.eye(len(of))) for of in (a, b))
        n = len(k)
        ones = np.ones(n)
        terms = np.trace(k @ m) + (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2))
        return (terms - 2 / (n - 2) * (ones @ k @ m @ ones)) / (n * (n - 3))

    a, b = (np.concatenate([of[0][where] for of, where in zip(side, real)]) for side in (x, y))
    return hsic(a, b) / np.sqrt(hsic(a, a) * hsic(b, b))


def plain(x, y, real):
    """The biased estimator."""
    a, b = (np.concatenate([of[0][where] for of, where in zip(side, real)]) for side in (x, y))
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return np.linalg.norm(a.T @ b) ** 2 / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))


def mixed(x, seed, share):
    """States that are in part those of `x`, of another width."""
    turn = np.random.default_rng(seed).normal(size=(x.shape[-1], 9)) / 3
    return share * x @ turn + (1 - share) * draw(seed, 9)[0]


@pytest.mark.parametrize("share", [0.0, 0.4, 0.9])
def test_it_is_the_direct_formula_over_all_batches(share):
    x, real = draw(0, 7)
    y = mixed(x, 5, share)
    assert real.sum() != real.size, "some places must be padding"
    (found,) = similarity(x, y, real)
    assert found == pytest.approx(direct(x, y, real), abs=1e-5)
    assert found == pytest.approx(similarity(y, x, real)[0], abs=1e-6)


def test_the_same_states_are_alike_turned_and_scaled_too_and_stretched_ones_are_not():
    x, real = draw(0, 7)
    assert similarity(x, x, real) == pytest.approx([1.0], abs=1e-12)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(7, 7)))[0]
    assert np.abs(turn - np.eye(7)).max() > 0.5
    other = -3 * x @ turn + 10
    assert similarity(x, other, real) == pytest.approx([1.0], abs=1e-5)
    y = mixed(x, 5, 0.6)
    assert similarity(x, y, real) == pytest.approx(similarity(other, 0.01 * y, real), abs=1e-5)
    stretched = x * np.array([1, 1, 1, 1, 1, 1, 0.01])
    assert similarity(x, stretched, real)[0] < 0.95


def test_unrelated_states_are_not_alike_where_the_plain_estimator_says_they_are():
    found, biased = [], []
    for seed in range(30):
        (x, real), (y, _) = draw(seed, 40), draw(100 + seed, 40)
        found += similarity(x, y, real)
        biased.append(plain(x, y, real))
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found)) + 0.01
    assert min(biased) > 0.15 > 5 * abs(np.mean(found))


def test_layers_are_told_apart_and_states_that_never_differ_have_no_value():
    x, real = draw(0, 7, layers=3)
    y = np.stack([x[:, 0], draw(4, 7)[0][:, 0], np.zeros_like(x[:, 0])], axis=1)
    first, second, third = similarity(x, y, real)
    assert first == pytest.approx(1.0) and abs(second) < 0.3 and third is None

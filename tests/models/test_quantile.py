import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from models import quantile


@pytest.fixture(scope="module")
def logits():
    return jnp.asarray(np.random.default_rng(0).normal(scale=2.0, size=61), jnp.float32)


def drawn(logits, uniform, temperature):
    given = quantile.Draw(uniform, jnp.full(uniform.shape, temperature, jnp.float32))
    rows = jnp.broadcast_to(logits[None], (*uniform.shape, logits.size))
    return np.asarray(jax.jit(quantile.pick)(rows, given))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_draws_follow_the_softmax_at_their_temperature(logits, temperature):
    count = 200_000
    tokens = drawn(logits, jax.random.uniform(jax.random.key(1), (count,)), temperature)
    counts = np.bincount(tokens, minlength=61)

    def fit(temperature):
        expected = count * np.asarray(jax.nn.softmax(logits / temperature), np.float64)
        return stats.chisquare(counts, expected * (counts.sum() / expected.sum())).pvalue

    assert fit(temperature) > 0.01
    assert fit(1.1 * temperature) < 1e-12, "the test sees a temperature that is a tenth off"


def test_a_quantile_is_the_entry_at_which_the_cumulated_probability_passes_it(logits):
    uniform = np.sort(np.random.default_rng(2).random(5000)).astype(np.float32)
    cumulated = np.cumsum(np.asarray(jax.nn.softmax(logits), np.float64))
    expected = np.searchsorted(cumulated / cumulated[-1], uniform, side="right")
    tokens = drawn(logits, jnp.asarray(uniform), 1.0)
    assert (np.diff(tokens) >= 0).all() and len(set(tokens.tolist())) > 20
    assert (tokens != expected).sum() <= 2, "rounding may move a number that lies on an edge"


def test_an_entry_without_probability_is_never_drawn():
    masked = jnp.full(1000, -jnp.inf).at[jnp.array([3, 500, 998])].set(0.0)
    edges = jnp.asarray([0.0, 1e-7, 1 / 3, 2 / 3, 1 - 2**-24], jnp.float32)
    assert set(drawn(masked, edges, 1.0).tolist()) <= {3, 500, 998}

"""Greedy and beam search over a model's key and value cache.

The rules are those of Hugging Face `generate` with early_stopping=False, so that scores published with one can be
checked with the other. Shapes: B rows, N beams, P prompt length, T most new tokens, V vocabulary.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from models import cache as caches
from models import decoder, encdec

_NEVER = -1e9
"""Score of what must not be chosen; added to real scores, so finite."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """How to decode: greedily with one beam, by beam search with more.

    length          most new tokens of a row, its end token included.
    length_penalty  a finished hypothesis of n new tokens scores log p / n ** length_penalty: above 0 favours long ones.
    start, end, pad ids of the token an encoder-decoder's output begins after, the token that ends an output, and the
                    one that fills what follows.
    """

    length: int
    beams: int = 1
    length_penalty: float = 1.0
    start: int = 0
    end: int = 1
    pad: int = 0

    def __post_init__(self):
        for name in ("length", "beams"):
            if getattr(self, name) < 1:
                raise ValueError(f"Search: {name} is {getattr(self, name)}; give at least 1")

    def rate(self, log_p: Array, count: Array) -> Array:
        """Scores [...] of hypotheses of `count` (a scalar) new tokens."""
        table = np.maximum(np.arange(self.length + 1, dtype=np.float64), 1) ** self.length_penalty
        return log_p / jnp.asarray(table, jnp.float32)[count]


class Decoded(NamedTuple):
    """The best output of each row: tokens [B, T], `pad` after the end token, and scores [B] as `Search` tells."""

    tokens: Array
    scores: Array


@functools.partial(jax.jit, static_argnums=(0,), static_argnames=("search",))
def decode(
    model: encdec.EncoderDecoder | decoder.Decoder,
    params: Mapping[str, Array],
    batch: Mapping[str, Array],
    *,
    search: Search,
) -> Decoded:
    """Outputs for the rows of a batch, which do not influence each other.

    An encoder-decoder reads encoder_inputs, encoder_segments and encoder_positions [B, S]; a decoder continues prompts
    decoder_inputs [B, P], padded on the right as decoder_segments tells and at least one token long, which see
    themselves whole if the batch has decoder_prefix.

    Raises:
      ValueError: the output cannot fit into the model's table of positions, or the vocabulary is too small.
    """
    _check(model, batch, search)
    cache, tokens, places = _begin(model, params, batch, search)
    # What is told by row is told once for each beam; in a cache the rows are axis 1.
    cache = jax.tree.map(lambda x: jnp.repeat(x, search.beams, axis=1), cache)
    step = functools.partial(_log_p, model, params, first=jnp.repeat(places, search.beams))
    if search.beams == 1:
        return _greedy(search, step, cache, tokens)
    return _beam(search, step, cache, tokens)


def _check(model, batch: Mapping[str, Array], search: Search):
    stack = model.decoder if isinstance(model, encdec.EncoderDecoder) else model.stack
    length = search.length
    if isinstance(model, decoder.Decoder):
        length += batch["decoder_inputs"].shape[1] - 1
    if stack.learned and length > stack.max_positions:
        raise ValueError(
            f"decode: {length} positions are needed but the model's table has {stack.max_positions}; "
            "decode shorter outputs or shorten the prompts"
        )
    if 2 * search.beams > model.vocabulary:
        raise ValueError(
            f"decode: {search.beams} beams need {2 * search.beams} candidates but the vocabulary has "
            f"{model.vocabulary}; use fewer beams"
        )


def _begin(model, params, batch, search: Search) -> tuple[caches.Cache, Array, Array]:
    """A cache, and for each row the last token before the output with its place."""
    if isinstance(model, encdec.EncoderDecoder):
        encoded = model.encode(params, batch)
        rows = encoded.shape[0]
        cache = model.start_cache(params, rows, search.length, encoded, batch["encoder_segments"])
        return cache, jnp.full((rows,), search.start, jnp.int32), jnp.zeros((rows,), jnp.int32)
    prompts = batch["decoder_inputs"]
    lengths = jnp.sum((batch["decoder_segments"] != 0).astype(jnp.int32), axis=1)
    cache = model.start_cache(params, prompts.shape[0], prompts.shape[1] + search.length - 1)
    _, cache = model.prefill(params, cache, prompts, lengths, prefix="decoder_prefix" in batch)
    # Reading the last token once more gives the same state, and one loop for both kinds of model.
    return cache, jnp.take_along_axis(prompts, lengths[:, None] - 1, axis=1)[:, 0], lengths - 1


def _log_p(model, params, cache: caches.Cache, tokens: Array, count: Array, *, first: Array):
    """Log probabilities [rows, V] of what follows `tokens` [rows], which are `count` places after `first` [rows]."""
    output, cache = model.decode_step(params, cache, tokens, first + count)
    return jax.nn.log_softmax(output.readout.logits(output.hidden)[:, 0]), cache


class _Greedy(NamedTuple):
    count: Array
    cache: caches.Cache
    last: Array
    tokens: Array
    log_p: Array
    length: Array
    ended: Array


def _greedy(search: Search, step, cache: caches.Cache, tokens: Array) -> Decoded:
    rows = tokens.shape[0]

    def more(state: _Greedy) -> Array:
        return (state.count < search.length) & ~jnp.all(state.ended)

    def extend(state: _Greedy) -> _Greedy:
        log_p, cache = step(state.cache, state.last, state.count)
        best = jnp.argmax(log_p, axis=-1).astype(jnp.int32)
        gained = jnp.max(log_p, axis=-1)
        best = jnp.where(state.ended, search.pad, best)
        return _Greedy(
            count=state.count + 1,
            cache=cache,
            last=best,
            tokens=lax.dynamic_update_slice_in_dim(state.tokens, best[:, None], state.count, axis=1),
            log_p=state.log_p + jnp.where(state.ended, 0.0, gained),
            length=state.length + (~state.ended).astype(jnp.int32),
            ended=state.ended | (best == search.end),
        )

    start = _Greedy(
        count=jnp.zeros((), jnp.int32),
        cache=cache,
        last=tokens,
        tokens=jnp.full((rows, search.length), search.pad, jnp.int32),
        log_p=jnp.zeros((rows,), jnp.float32),
        length=jnp.zeros((rows,), jnp.int32),
        ended=jnp.zeros((rows,), bool),
    )
    end = lax.while_loop(more, extend, start)
    return Decoded(end.tokens, search.rate(end.log_p, end.length))


class _Beams(NamedTuple):
    """`tokens` [B, N, T] and `log_p` [B, N] are of the hypotheses still growing, best first; the `done_` ones ended.

    done [B, N] tells which of the latter are more than placeholders, and `open` [B] which rows may still improve.
    """

    count: Array
    cache: caches.Cache
    last: Array
    tokens: Array
    log_p: Array
    done_tokens: Array
    done_scores: Array
    done: Array
    open: Array
    stuck: Array


def _beam(search: Search, step, cache: caches.Cache, tokens: Array) -> Decoded:
    rows, beams = tokens.shape[0], search.beams
    offsets = jnp.arange(rows, dtype=jnp.int32)[:, None] * beams

    def more(state: _Beams) -> Array:
        return (state.count < search.length) & jnp.any(state.open) & ~state.stuck

    def extend(state: _Beams) -> _Beams:
        log_p, cache = step(state.cache, state.last, state.count)
        size = log_p.shape[-1]
        log_p = log_p.reshape(rows, beams, size) + state.log_p[..., None]
        # Twice as many candidates as beams: should all of the best end, as many are left to go on with.
        log_p, flat = lax.top_k(log_p.reshape(rows, beams * size), 2 * beams)
        parents, chosen = flat // size, flat % size
        tokens = jnp.take_along_axis(state.tokens, parents[..., None], axis=1)
        tokens = lax.dynamic_update_slice_in_dim(tokens, chosen[..., None], state.count, axis=2)
        count = state.count + 1
        ended = (chosen == search.end) | (count == search.length)

        # Of the candidates that ended only the first N count: the others lost to hypotheses that go on.
        eligible = ended & (jnp.arange(2 * beams) < beams)[None]
        scores = search.rate(log_p, count) + jnp.where(eligible & state.open[:, None], 0.0, _NEVER)
        done_scores, order = lax.top_k(jnp.concatenate([state.done_scores, scores], axis=1), beams)
        done = jnp.take_along_axis(jnp.concatenate([state.done, eligible], axis=1), order, axis=1)
        done_tokens = jnp.concatenate([state.done_tokens, tokens], axis=1)
        done_tokens = jnp.take_along_axis(done_tokens, order[..., None], axis=1)

        log_p, order = lax.top_k(log_p + jnp.where(ended, _NEVER, 0.0), beams)
        tokens = jnp.take_along_axis(tokens, order[..., None], axis=1)
        parents = jnp.take_along_axis(parents, order, axis=1)
        come_from = (parents + offsets).reshape(-1)
        moved = jax.tree.map(lambda x: jnp.take(x, come_from, axis=1), cache["self"])

        # The best that goes on, rated as if it ended now, against the worst that has ended.
        worst = jnp.where(jnp.all(done, axis=1), jnp.min(done_scores, axis=1), _NEVER)
        return _Beams(
            count=count,
            cache={**cache, "self": moved},
            last=jnp.take_along_axis(chosen, order, axis=1).reshape(-1),
            tokens=tokens,
            log_p=log_p,
            done_tokens=done_tokens,
            done_scores=done_scores,
            done=done,
            open=state.open & (search.rate(log_p[:, 0], count) > worst),
            stuck=jnp.all(ended),
        )

    blank = jnp.full((rows, beams, search.length), search.pad, jnp.int32)
    start = _Beams(
        count=jnp.zeros((), jnp.int32),
        cache=cache,
        last=jnp.repeat(tokens, beams),
        tokens=blank,
        # One live beam at first, lest all of them be the same.
        log_p=jnp.where(jnp.arange(beams) == 0, 0.0, _NEVER)[None].repeat(rows, axis=0),
        done_tokens=blank,
        done_scores=jnp.full((rows, beams), _NEVER, jnp.float32),
        done=jnp.zeros((rows, beams), bool),
        open=jnp.ones((rows,), bool),
        stuck=jnp.zeros((), bool),
    )
    end = lax.while_loop(more, extend, start)
    return Decoded(end.done_tokens[:, 0], end.done_scores[:, 0])

"""Where our step's time goes: each part alone, forward and backward, times how often the step has it."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from models import attention, axes, encdec, layers, softmax, stack


def measure(ours: Any, repeats: int) -> list[dict[str, Any]]:
    """Seconds of the whole step and of its parts; `ours` is step.py's `Ours`."""
    ours.run(2)
    rows = [_row("whole step", 1, statistics.median(ours.run(1) for _ in range(max(3, repeats))))]
    # The step consumes its state: these are the arrays of the last one.
    model, params, batch = ours.stage.model, ours.state.params, ours.batch

    def part(name: str, count: int, function: Callable[..., Any], *arguments: Any):
        compiled = jax.jit(function)
        jax.block_until_ready(compiled(*arguments))
        times = []
        for _ in range(max(3, repeats)):
            start = time.perf_counter()
            jax.block_until_ready(compiled(*arguments))
            times.append(time.perf_counter() - start)
        rows.append(_row(name, count, min(times)))

    seq2seq = isinstance(model, encdec.EncoderDecoder)
    sides = [("encoder", model.encoder, batch["encoder_inputs"].shape)] if seq2seq else []
    sides += [("decoder", model.decoder, batch["decoder_inputs"].shape)] if seq2seq else []
    sides = sides or [("encoder", model.stack, batch["encoder_inputs"].shape)]
    memory = _states(sides[0][2], sides[0][1].width, model.compute)
    for name, config, shape in sides:
        x = _states(shape, config.width, model.compute)
        one = _layer(params, name)
        causal = name == "decoder"
        part(f"{name} self-attention", config.layers, *_attention(config, one["self_attention"], x, x, causal=causal))
        if "cross_attention" in one:
            cross = _attention(config, one["cross_attention"], x, memory, causal=False)
            part(f"{name} cross-attention", config.layers, *cross)
        part(f"{name} MLP", config.layers, *_mlp(config, one["mlp"], x))
    part("logits and loss", 1, *_loss(ours))
    part("optimizer", 1, *_update(ours))
    rest = rows[0]["seconds"] - sum(row["seconds"] for row in rows[1:])
    rows.append(_row("rest: embedding, norms, residuals, carrying states between layers", 1, rest))
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Print what `measure` found."""
    print()
    for row in rows:
        share = row["seconds"] / rows[0]["seconds"]
        times = f"{row['count']} x {row['each']:.3f} s" if row["count"] > 1 else ""
        print(f"{row['name']:68}{row['seconds']:8.3f} s{share:7.1%}   {times}")


def _row(name: str, count: int, each: float) -> dict[str, Any]:
    return {"name": name, "count": count, "each": each, "seconds": count * each}


def _states(shape: tuple[int, ...], width: int, dtype: jnp.dtype) -> jax.Array:
    return jax.random.normal(jax.random.key(1), (*shape, width)).astype(dtype)


def _layer(params: Mapping[str, jax.Array], side: str) -> Any:
    """Parameters of the first layer, nested."""
    prefix = f"{side}/layers/"
    return axes.nest({path.removeprefix(prefix): x[0] for path, x in params.items() if path.startswith(prefix)})


def _both_ways(function: Callable[..., Any]) -> Callable[..., Any]:
    """Output's cotangent and arguments -> output and gradients of all arguments."""

    def run(cotangent: jax.Array, *arguments: Any) -> Any:
        out, back = jax.vjp(function, *arguments)
        return out, back(cotangent)

    return run


def _attention(config: stack.Stack, params: Any, x: jax.Array, source: jax.Array, *, causal: bool) -> tuple[Any, ...]:
    module = attention.Attention(config, x.dtype)
    ones = jnp.ones(x.shape[:2], jnp.int32)
    seen = (
        attention.causal_mask(ones) if causal else attention.segment_mask(ones, jnp.ones(source.shape[:2], jnp.int32))
    )
    mask = attention.hide(seen, x.dtype)
    bias = jnp.zeros((config.heads, x.shape[1], source.shape[1])) if config.relative and source is x else None

    def attend(params: Any, x: jax.Array, bias: jax.Array | None, *source: jax.Array) -> jax.Array:
        def call(module: attention.Attention) -> jax.Array:
            return module(x, module.pairs(source[0] if source else x), mask=mask, bias=bias)

        return nn.apply(call, module)({"params": params})

    return _both_ways(attend), x, params, x, bias, *(() if source is x else (source,))


def _mlp(config: stack.Stack, params: Any, x: jax.Array) -> tuple[Any, ...]:
    module = layers.MLP(config, x.dtype)
    return _both_ways(lambda params, x: module.apply({"params": params}, x)), x, params, x


def _loss(ours: Any) -> tuple[Any, ...]:
    output = jax.eval_shape(ours.stage.model.apply, ours.state.params, ours.batch)
    readout = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), output.readout)
    hidden = jax.random.normal(jax.random.key(2), output.hidden.shape).astype(output.hidden.dtype)

    def loss(readout: Any, hidden: jax.Array) -> jax.Array:
        targets, weights = ours.batch["targets"], ours.batch["weights"]
        return softmax.cross_entropy(readout, hidden, targets, weights, chunk=ours.stage.loss.chunk)[0]

    return jax.value_and_grad(loss, argnums=(0, 1)), readout, hidden


def _update(ours: Any) -> tuple[Any, ...]:
    def update(grads: Any, opt_state: Any, params: Any) -> Any:
        updates, opt_state = ours.layout.optimizer.update(grads, opt_state, params, step=jnp.zeros((), jnp.int32))
        return optax.apply_updates(params, updates), opt_state

    params = dict(ours.state.params)
    return update, params, ours.state.opt_state, params

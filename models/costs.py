"""What a model costs: forward FLOPs by part, counted from shapes.

Products with weights and attention's two products are counted, 2 FLOPs a multiply-add; norms, activations, softmax
and lookups are not. An encoder's attention counts every pair of places, causal attention half of them.
"""

import dataclasses

from models import stack as stacks


@dataclasses.dataclass(frozen=True)
class Cost:
    """One part of a model, in order of execution.

    prefix                a pattern (to be matched in full) of the paths of the parameters that it uses.
    forward_flops         of one batch.
    layers                how many layers it has; 0 for what is not a stack.
    layer_matmul_params   parameters of one layer that are factors of products, cross-attention's left out.
    apart                 whether no gradient passes from it to the parts before it.
    """

    name: str
    prefix: str
    forward_flops: float
    layers: int = 0
    layer_matmul_params: int = 0
    apart: bool = False


def layer_matmul_params(config: stacks.Stack) -> int:
    """Parameters of one layer in its self-attention's projections and its MLP."""
    return attention_params(config) + config.width * config.mlp * (3 if config.gated else 2)


def attention_params(config: stacks.Stack) -> int:
    """Parameters of the four projections of one attention."""
    return config.width * config.size * 2 * (config.heads + config.groups)


def stack(
    name: str, config: stacks.Stack, rows: int, length: int, *, causal: bool, memory: int = 0, fused: int = 0
) -> Cost:
    """The layers of a stack on `rows` rows of `length` places; with `memory` places of an encoder, cross-attention too.

    `fused` is how many encoder states attention fusion mixes.
    """
    places = rows * length
    pairs = rows * length * length / (2 if causal else 1)
    params = layer_matmul_params(config)
    flops = 2.0 * places * params + _scores(config, pairs)
    if memory:
        sides = config.width * config.size * 2
        flops += 2.0 * sides * (places * config.heads + rows * memory * config.groups)
        flops += _scores(config, places * memory)
    once = 2.0 * fused * rows * memory * config.width
    once += 2.0 * places * (config.embedding_width or 0) * config.width
    prefix = f"{name}/(layers|relative_bias|final_norm|fusion|embedding_projection)/.*"
    return Cost(name, prefix, config.layers * flops + once, config.layers, params)


def embeddings(name: str, table: str) -> Cost:
    """The tables and norm before the stack `name`, whose tokens are in `table`: lookups, so no FLOPs."""
    return Cost(f"{name}_embeddings", f"{table}/.*|{name}/(position_embedder|type_embedder|embedding_norm)/.*", 0.0)


def output(prefix: str, places: int, *kernels: tuple[int, int]) -> Cost:
    """What follows the last stack at `places` places in all: products with kernels of the given shapes."""
    return Cost("output", prefix, 2.0 * places * sum(rows * columns for rows, columns in kernels))


def _scores(config: stacks.Stack, pairs: float) -> float:
    """Scores and weighted values of `pairs` query and key places."""
    return 2.0 * 2.0 * pairs * config.heads * config.size

"""The configuration of a stack of transformer layers: everything that tells BERT's from T5's, GPT-2's and Llama's."""

import dataclasses
from typing import Any

from models import initial, stretch

ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "relu2", "silu")
NORMS = ("layernorm", "rmsnorm")
NORM_POSITIONS = ("pre", "post")
POSITIONS = ("learned", "relative", "relative_layers", "learned_relative", "rotary", "none")
REMAT = ("none", "dots", "full")
ATTENTION = ("plain", "splash", "bucketed", "cudnn")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stack:
    """A stack of `layers` equal layers of width `width`; one configuration serves encoders and decoders.

    Shape
      layers, width, heads   the number of layers, the size of the residual stream, the number of query heads.
      head_dim               size of a head; None means width / heads.
      kv_heads               key and value heads, each shared by heads / kv_heads query heads (arXiv:2305.13245);
                             None means one for each query head.
      mlp                    hidden size of the MLP.
      activation, gated      act(x wi) wo, or with gated (act(x wi_gate) * (x wi)) wo (arXiv:2002.05202). "gelu" is
                             exact, "gelu_tanh" its tanh approximation, "relu2" the squared ReLU.
    Norms
      norm, norm_eps         "layernorm" or "rmsnorm"; `norm_bias` adds a bias (layernorm only).
      norm_position          "pre": x + f(norm(x)); "post": norm(x + f(x)).
      final_norm             a norm after the last layer; None means exactly for "pre".
      embedding_norm         a norm after the embeddings are summed.
      first_norm             "pre" only: False leaves out the first layer's norm before self-attention, as ModernBERT,
                             whose embeddings are normed already; the scale is there all the same and does nothing.
    Positions
      positions              "learned": a table of `max_positions` rows added to the tokens.
                             "relative": T5's bias on the scores (arXiv:1910.10683), one table of `buckets` for the
                             whole stack, `max_distance` the distance from which all share a bucket.
                             "relative_layers": the same with a table for each layer (umT5, arXiv:2304.09151).
                             "learned_relative": both. "none": neither.
                             "rotary": queries and keys turned, `rotary_base` the base of the wavelengths
                             (arXiv:2104.09864), `rotary_scaling` how they are stretched for longer texts.
      position_offset        rows before the first position's in the table: RoBERTa and BART keep 2 that serve nothing.
      local                  how far to each side a layer with local attention sees (arXiv:2004.05150); None means all
                             see everything.
      global_every           with `local`, layers 0, n, 2n, ... see everything (ModernBERT: 3, arXiv:2412.13663).
      local_rotary_base      the base in layers with local attention; None means `rotary_base`.
      types                  rows of the token type table; 0 means there is none.
      embedding_scale        number by which token embeddings are multiplied.
      embedding_width        width of the tables; a dense layer takes the sum to `width` (ELECTRA, arXiv:2003.10555).
                             None means `width` and no such layer. Encoders only.
    Numbers
      attention_bias, mlp_bias   biases on the projections.
      scale_scores           divide scores by sqrt(head size); T5 does not.
      dropout                rate on embeddings and on what each sublayer adds; mlp_dropout: on the MLP's hidden layer;
                             attention_dropout: on attention probabilities.
      init                   initial values.
    Engine (never changes the mathematics)
      remat                  what the backward pass recomputes: "none"; "dots": everything but the products with
                             weights; "full": whole layers.
      unroll                 layers a step of the scan holds; `layers` unrolls the loop.
      attention              "plain", on every platform; or a kernel: "bucketed" for TPUs with a relative bias,
                             "splash" for TPUs and "cudnn" for GPUs without (models/kernels.py).
    """

    layers: int
    width: int
    heads: int
    mlp: int
    head_dim: int | None = None
    kv_heads: int | None = None
    activation: str = "gelu"
    gated: bool = False
    norm: str = "layernorm"
    norm_position: str = "pre"
    norm_eps: float = 1e-6
    norm_bias: bool = True
    final_norm: bool | None = None
    embedding_norm: bool = False
    first_norm: bool = True
    positions: str = "learned"
    max_positions: int = 512
    position_offset: int = 0
    buckets: int = 32
    max_distance: int = 128
    rotary_base: float = 10000.0
    rotary_scaling: stretch.Llama3 | None = None
    local: int | None = None
    global_every: int = 1
    local_rotary_base: float | None = None
    types: int = 0
    embedding_scale: float = 1.0
    embedding_width: int | None = None
    attention_bias: bool = True
    mlp_bias: bool = True
    scale_scores: bool = True
    dropout: float = 0.0
    mlp_dropout: float = 0.0
    attention_dropout: float = 0.0
    init: initial.Initial = initial.Initial()
    remat: str = "none"
    unroll: int = 1
    attention: str = "plain"

    def __post_init__(self):
        for name in ("layers", "width", "heads", "mlp", "max_positions", "unroll"):
            _require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; give at least 1")
        for name, known in (
            ("activation", ACTIVATIONS),
            ("norm", NORMS),
            ("norm_position", NORM_POSITIONS),
            ("positions", POSITIONS),
            ("remat", REMAT),
            ("attention", ATTENTION),
        ):
            value = getattr(self, name)
            _require(value in known, f"{name} {value!r} is unknown; choose one of {', '.join(known)}")
        for name in ("dropout", "mlp_dropout", "attention_dropout"):
            _require(0 <= getattr(self, name) < 1, f"{name} is {getattr(self, name)}; give a rate from 0 to below 1")
        _require(
            self.head_dim is not None or self.width % self.heads == 0,
            f"width {self.width} is not a multiple of heads {self.heads}; change one of them or set head_dim",
        )
        _require(
            1 <= self.groups <= self.heads and self.heads % self.groups == 0,
            f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}; change one of them",
        )
        _require(
            not self.rotary or self.size % 2 == 0,
            f"head size {self.size} is odd but rotary positions turn pairs; use an even head_dim",
        )
        _require(self.local is None or self.local >= 1, f"local is {self.local}; give at least 1, or None for all")
        _require(self.global_every >= 1, f"global_every is {self.global_every}; give at least 1")
        _require(self.position_offset >= 0, f"position_offset is {self.position_offset}; give 0 or more")
        _require(
            self.first_norm or self.norm_position == "pre",
            "first_norm = False leaves out a norm before attention, and norm_position 'post' has none there",
        )
        _require(
            self.embedding_width is None or self.embedding_width >= 1,
            f"embedding_width is {self.embedding_width}; give at least 1, or None for the stack's width",
        )
        _require(self.types >= 0, f"types is {self.types}; give 0 for none, or the number of token types")
        _require(
            self.buckets >= 4 and self.buckets % 4 == 0 and self.max_distance > self.buckets // 2,
            f"buckets {self.buckets} with max_distance {self.max_distance}: buckets must be a multiple of 4 and "
            "max_distance above half of it",
        )
        if self.attention != "plain":
            self._check_kernel()

    def _check_kernel(self):
        """Refuses what the chosen kernel can't compute."""
        kernel = f"attention {self.attention!r}"
        _require(
            self.attention_dropout == 0,
            f"{kernel} has no dropout and attention_dropout is {self.attention_dropout}; set it to 0 or "
            "attention = 'plain'",
        )
        _require(self.local is None, f"{kernel} sees whole rows and local is {self.local}; set attention = 'plain'")
        _require(
            self.positions != "relative_layers",
            f"{kernel} has no bias for each layer, which positions 'relative_layers' asks for; set attention = 'plain'",
        )
        if self.attention == "bucketed":
            _require(
                self.relative,
                f"{kernel} is for a relative bias and positions is {self.positions!r}; set attention = 'splash'",
            )
        else:
            _require(
                not self.relative,
                f"{kernel} has no place for the bias of positions {self.positions!r}; set attention = 'bucketed' "
                "(TPU) or 'plain'",
            )
        _require(
            self.attention != "cudnn" or (self.size % 8 == 0 and self.size <= 128),
            f"{kernel} takes head sizes that are multiples of 8 up to 128 and this is {self.size}; change head_dim",
        )

    @property
    def size(self) -> int:
        """Size of one head."""
        return self.head_dim if self.head_dim is not None else self.width // self.heads

    @property
    def groups(self) -> int:
        """Number of key and value heads."""
        return self.kv_heads if self.kv_heads is not None else self.heads

    @property
    def learned(self) -> bool:
        """Whether there is a table of positions."""
        return self.positions in ("learned", "learned_relative")

    @property
    def relative(self) -> bool:
        """Whether there is a relative bias on the scores, the same in all layers."""
        return self.positions in ("relative", "learned_relative")

    @property
    def uneven(self) -> bool:
        """Whether a layer does something else by where it stands in the stack."""
        return self.local is not None or not self.first_norm

    @property
    def table_width(self) -> int:
        """Width of the tables of tokens, positions and types."""
        return self.width if self.embedding_width is None else self.embedding_width

    @property
    def rotary(self) -> bool:
        """Whether queries and keys are rotated."""
        return self.positions == "rotary"

    @property
    def looped(self) -> bool:
        """Whether the layers are in a loop, where XLA cannot merge what is made again with the original."""
        return self.unroll < self.layers

    @property
    def closing_norm(self) -> bool:
        """Whether a norm follows the last layer."""
        return self.final_norm if self.final_norm is not None else self.norm_position == "pre"


def altered(model: Any, **fields: Any) -> Any:
    """A configuration of a model with these fields set in each of its stacks."""
    values = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    made = {name: dataclasses.replace(value, **fields) for name, value in values.items() if isinstance(value, Stack)}
    return dataclasses.replace(model, **made)


def _require(true: bool, message: str):
    if not true:
        raise ValueError(f"Stack: {message}")

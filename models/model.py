"""What every model offers: a parameter tree without arrays, initial values, and a forward pass, all in flat form."""

import abc
import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax import Array

from models import axes, stack
from models import costs as cost
from models import readout as readouts

DTYPES = ("float32", "bfloat16")


@struct.dataclass
class Output:
    """What a forward pass gives.

    hidden   [B, M, D] states at the targets only, in the compute dtype.
    readout  how they become logits over the vocabulary, or None where the head is not over the vocabulary.
    logits   float32 logits of the other heads: [B, L, classes], [B, classes] or [B, L]; or None.
    encoded  encoder-decoders: [B, S, D], what the decoder attends to.
    """

    hidden: Array
    readout: readouts.Readout | None = None
    logits: Array | None = None
    encoded: Array | None = None


def at_targets(hidden: Array, batch: Mapping[str, Array]) -> Array:
    """The states [B, M, D] at batch["target_positions"] [B, M]; all [B, L, D] if the batch has none."""
    if "target_positions" not in batch:
        return hidden
    return jnp.take_along_axis(hidden, batch["target_positions"][:, :, None], axis=1)


def check_tables(owner: str, *stacks: stack.Stack):
    """Refuse tables narrower than the stack, which only encoders have."""
    for one in stacks:
        if one.embedding_width is not None:
            raise ValueError(f"{owner}: embedding_width is {one.embedding_width}; only encoders have one, give None")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model(abc.ABC):
    """A model's configuration and, through it, its functions. Parameters are flat: {path: float32 array}.

    `vocabulary` is the number of token ids; `dtype` the compute dtype (norms and softmax are float32 always).
    """

    kind: ClassVar[str]

    vocabulary: int
    dtype: str = "float32"

    def __post_init__(self):
        if self.dtype not in DTYPES:
            raise ValueError(f"{self._name}: dtype {self.dtype!r} is unknown; choose one of {', '.join(DTYPES)}")
        if self.vocabulary < 1:
            raise ValueError(f"{self._name}: vocabulary {self.vocabulary} holds no token; give its size")

    @abc.abstractmethod
    def module(self) -> nn.Module:
        """The Flax module, called on a batch."""

    @abc.abstractmethod
    def example(self) -> dict[str, Array]:
        """The smallest batch that reaches every parameter."""

    @abc.abstractmethod
    def costs(self, rows: int, inputs: int, targets: int, predicted: int) -> tuple[cost.Cost, ...]:
        """What a batch costs, part by part in order of execution.

        It has `rows` rows of `inputs` encoder places and `targets` decoder places (all that a decoder alone has), with
        the head at `predicted` places of each.
        """

    @property
    def stacks(self) -> dict[str, stack.Stack]:
        """The stacks of the model by the side of the batch that they read, "encoder" or "decoder"."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        sides = {"stack": self.kind}
        return {sides.get(name, name): value for name, value in found.items() if isinstance(value, stack.Stack)}

    @property
    def sums(self) -> dict[str, tuple[str, ...]]:
        """Paths that a handoff may read as if they were parameters, and those whose sum each is; most have none."""
        return {}

    @property
    def outputs(self) -> tuple[str, ...]:
        """The fields of `Output` that tell of tokens or classes: "readout", "logits"."""
        return ("readout",)

    def abstract(self) -> dict[str, axes.Leaf]:
        """Shape, dtype and logical axes of every parameter, sorted by path; makes no array."""
        return dict(_abstract(self))

    def init(self, key: Array) -> dict[str, Array]:
        """Initial parameters, from a PRNG key; can be jitted, and gives the same values either way."""
        return _init(self, key)

    def apply(self, params: Mapping[str, Array], batch: Mapping[str, Any], *, key: Array | None = None) -> Output:
        """Forward pass on a batch of this model's kind; `key` draws dropout, None means there is none."""
        return self.call(None, params, batch, key=key)

    def states(self, params: Mapping[str, Array], batch: Mapping[str, Any]) -> dict[str, Array]:
        """What each layer hands on, [layers + 1, B, L, D] of each stack, by the side of the batch that it reads.

        From the embeddings to the last layer, none through the final norm. A side that the batch hasn't is left out.
        """
        return self.call("states", params, batch)

    def call(self, method: str | None, params: Mapping[str, Array], *args, key: Array | None = None, **kwargs) -> Any:
        """Run one method of the module on flat parameters."""
        rngs = {} if key is None else {"dropout": key}
        return self.module().apply({"params": axes.nest(params)}, *args, rngs=rngs, method=method, **kwargs)

    @property
    def compute(self) -> jnp.dtype:
        """The compute dtype."""
        return jnp.dtype(self.dtype)

    @property
    def _name(self) -> str:
        return type(self).__name__


@functools.partial(jax.jit, static_argnums=0)
def _init(model: Model, key: Array) -> dict[str, Array]:
    return axes.unbox(model.module().init(key, model.example())["params"])


@functools.cache
def _abstract(model: Model) -> dict[str, axes.Leaf]:
    # A typed key's shape is known without drawing it.
    boxed = jax.eval_shape(lambda: model.module().init(jax.random.key(0), model.example())["params"])
    return axes.leaves(boxed)

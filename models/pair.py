"""Two models that train together: an auxiliary encoder corrupts the text that the main one reads (ELECTRA, METRO)."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from models import axes, encdec, encoder, heads, model
from models import costs as cost
from models import stack as stacks


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shared:
    """Both encoders have one array for each parameter that a pattern of `paths` matches in full; it is the main one's.

    The token table alone, as COCO-LM does (arXiv:2102.08473), or more, such as r"encoder/position_embedder/.*".
    """

    paths: tuple[str, ...] = (r"token_embedder/.*",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Apart:
    """Both encoders have parameters of their own throughout."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Disentangled:
    """The token table is the auxiliary's, and the main encoder adds main/token_embedder/difference, which starts at 0.

    The main encoder's losses move the difference alone (gradient-disentangled embedding sharing, DeBERTaV3,
    arXiv:2111.09543).
    """


TABLE, DIFFERENCE = "token_embedder/embedding", "token_embedder/difference"
SIDES = ("main", "auxiliary")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """A main model and an auxiliary encoder; it offers what `model.Model` offers, and is what the main model is.

    The main one is an `Encoder`, or with a `decoder` an `EncoderDecoder` (METRO-T0, arXiv:2305.12567). Parameters are
    those of the two, under main/... and auxiliary/...; a batch is the main one's with target_positions. The auxiliary
    has no dropout, so that one forward pass gives both its loss and its samples.

    main, auxiliary   the stacks of both encoders.
    decoder           the stack that writes what was there, on top of the main encoder; None leaves that to `head`.
    head              on the main encoder: `RestoreAndDetect`, or one of its two alone; beside a decoder `ReplacedToken`
                      or None.
    generator         the auxiliary's head.
    sharing           what the two have in common.
    dtype             the compute dtype; `auxiliary_dtype` the auxiliary's, None means the same.
    """

    main: stacks.Stack
    auxiliary: stacks.Stack
    vocabulary: int
    decoder: stacks.Stack | None = None
    head: heads.RestoreAndDetect | heads.ReplacedToken | heads.MaskedLM | None = heads.RestoreAndDetect()
    generator: heads.MaskedLM = heads.MaskedLM()
    sharing: Shared | Apart | Disentangled = Shared()
    dtype: str = "float32"
    auxiliary_dtype: str | None = None

    def __post_init__(self):
        for name in ("dropout", "mlp_dropout", "attention_dropout"):
            rate = getattr(self.auxiliary, name)
            if rate:
                raise ValueError(
                    f"Pair: the auxiliary has {name} {rate}, and one forward pass gives its loss and its samples; set 0"
                )
        if self.decoder is not None and not isinstance(self.head, heads.ReplacedToken | None):
            raise ValueError(
                f"Pair: the decoder restores tokens and head {type(self.head).__name__} does too; give ReplacedToken "
                "or None"
            )
        widths = {side: getattr(self, side).table_width for side in SIDES}
        if isinstance(self.sharing, Disentangled) and len(set(widths.values())) > 1:
            raise ValueError(f"Pair: the token tables have widths {widths} and are shared; give both one, or Apart()")
        _ = self.models

    @property
    def models(self) -> dict[str, encoder.Encoder | encdec.EncoderDecoder]:
        """The two as models of their own, "main" and "auxiliary"."""
        many, dtype = self.vocabulary, self.dtype
        if self.decoder is None:
            main = encoder.Encoder(stack=self.main, head=self.head, vocabulary=many, dtype=dtype)
        else:
            assert isinstance(self.head, heads.ReplacedToken | None)
            main = encdec.EncoderDecoder(
                encoder=self.main, decoder=self.decoder, head=self.head, vocabulary=many, dtype=dtype
            )
        auxiliary = encoder.Encoder(
            stack=self.auxiliary, head=self.generator, vocabulary=many, dtype=self.auxiliary_dtype or dtype
        )
        return {"main": main, "auxiliary": auxiliary}

    @property
    def kind(self) -> str:
        """The main model's."""
        return self.models["main"].kind

    @property
    def restoring(self) -> bool:
        """Whether the main model restores tokens."""
        return self.decoder is not None or any(isinstance(head, heads.MaskedLM) for head in heads.single(self.head))

    @property
    def detecting(self) -> bool:
        """Whether the main encoder detects replaced tokens."""
        return any(isinstance(head, heads.ReplacedToken) for head in heads.single(self.head))

    @property
    def stacks(self) -> dict[str, stacks.Stack]:
        """The stacks; "main" and "auxiliary" read the encoder's side of a batch, "decoder" its own."""
        found = {name: getattr(self, name) for name in (*SIDES, "decoder")}
        return {name: of for name, of in found.items() if of is not None}

    @property
    def outputs(self) -> tuple[str, ...]:
        """The fields of `Output` that the main model fills."""
        return self.models["main"].outputs

    def example(self) -> dict[str, Array]:
        """The smallest batch that reaches every parameter."""
        return self.models["auxiliary"].example() | self.models["main"].example()

    def abstract(self) -> dict[str, axes.Leaf]:
        """Shape, dtype and logical axes of every parameter, sorted by path; makes no array."""
        leaves = {side: of.abstract() for side, of in self.models.items()}
        shared = self._shared(leaves["auxiliary"])
        for path in shared:
            one, other = leaves["main"].get(path), leaves["auxiliary"][path]
            if one != other:
                raise ValueError(
                    f"Pair: {path} is shared and has shape {other.shape} in the auxiliary and "
                    f"{'none' if one is None else one.shape} in the main model; make them alike, or share less"
                )
        found = {
            f"{side}/{path}": leaf
            for side, own in leaves.items()
            for path, leaf in own.items()
            if side == "main" or path not in shared
        }
        if isinstance(self.sharing, Disentangled):
            found[f"main/{DIFFERENCE}"] = found.pop(f"main/{TABLE}")
        return dict(sorted(found.items()))

    @property
    def sums(self) -> dict[str, tuple[str, ...]]:
        """What one of the two has as a model of its own and not here: by its path under main/ or auxiliary/."""
        shared = self._shared(self.models["auxiliary"].abstract())
        found: dict[str, tuple[str, ...]] = {f"auxiliary/{path}": (f"main/{path}",) for path in shared}
        if isinstance(self.sharing, Disentangled):
            found[f"main/{TABLE}"] = f"auxiliary/{TABLE}", f"main/{DIFFERENCE}"
        return found

    def init(self, key: Array) -> dict[str, Array]:
        """Initial parameters, from a PRNG key; can be jitted, and gives the same values either way."""
        values = {}
        for (side, of), own in zip(self.models.items(), jax.random.split(key)):
            values |= {f"{side}/{path}": x for path, x in of.init(own).items()}
        if isinstance(self.sharing, Disentangled):
            values[f"main/{DIFFERENCE}"] = jnp.zeros_like(values[f"main/{TABLE}"])
        return {path: values[path] for path in self.abstract()}

    def side(self, name: str, params: Mapping[str, Array]) -> dict[str, Array]:
        """The parameters of the "main" or "auxiliary" model, as it has them alone."""
        own = {path.removeprefix(f"{name}/"): x for path, x in params.items() if path.startswith(f"{name}/")}
        if name == "auxiliary":
            leaves = self.models["auxiliary"].abstract()
            own |= {path: params[f"main/{path}"] for path in self._shared(leaves)}
        elif isinstance(self.sharing, Disentangled):
            own[TABLE] = lax.stop_gradient(params[f"auxiliary/{TABLE}"]) + own.pop(DIFFERENCE)
        return own

    def generate(self, params: Mapping[str, Array], batch: Mapping[str, Any]) -> model.Output:
        """The auxiliary's states at the targets and their readout, without dropout."""
        return self.models["auxiliary"].apply(self.side("auxiliary", params), batch)

    def apply(self, params: Mapping[str, Array], batch: Mapping[str, Any], *, key: Array | None = None) -> model.Output:
        """The main model on a batch as it stands: states and readout to restore by, logits to detect by."""
        return self.models["main"].apply(self.side("main", params), batch, key=key)

    def states(self, params: Mapping[str, Array], batch: Mapping[str, Any]) -> dict[str, Array]:
        """What each layer of the main model hands on, see `model.Model.states`."""
        return self.models["main"].states(self.side("main", params), batch)

    def costs(
        self, rows: int, inputs: int, targets: int, predicted: int, restored: int | None = None
    ) -> tuple[cost.Cost, ...]:
        """What a batch costs: the auxiliary on it, then the main model, whose gradient ends where it begins.

        The auxiliary predicts `predicted` places of each row, the main model restores as many or `restored`.
        """
        restored = predicted if restored is None else restored
        auxiliary = self.models["auxiliary"].costs(rows, inputs, targets, predicted)
        tables, *rest = self.models["main"].costs(rows, inputs, targets, restored)
        return (
            *(self._part("auxiliary", part) for part in auxiliary),
            *(self._part("main", part) for part in (dataclasses.replace(tables, apart=True), *rest)),
        )

    def _part(self, side: str, part: cost.Cost) -> cost.Cost:
        prefix = f"{side}/({part.prefix})"
        if side == "auxiliary":
            used = [path for path in self._shared(self.models[side].abstract()) if re.fullmatch(part.prefix, path)]
            prefix = "|".join([prefix, *(re.escape(f"main/{path}") for path in used)])
        return dataclasses.replace(part, name=f"{side}/{part.name}", prefix=prefix)

    def _shared(self, leaves: Mapping[str, Any]) -> tuple[str, ...]:
        """The paths of the auxiliary's parameters that are the main encoder's."""
        if not isinstance(self.sharing, Shared):
            return ()
        for pattern in self.sharing.paths:
            if not any(re.fullmatch(pattern, path) for path in leaves):
                raise ValueError(f"Pair: shared path {pattern!r} matches no parameter of the auxiliary; correct it")
        return tuple(path for path in leaves if any(re.fullmatch(pattern, path) for pattern in self.sharing.paths))

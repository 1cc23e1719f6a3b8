"""The one grammar of name maps: which tensor of a published checkpoint holds which of our parameters, read both ways.

A `Rule` pairs a path of ours with a tensor's name. `{i}` in the name stands for the layer, and our parameter then
holds all layers on its first axis. `plan` makes the pairing total: every parameter is filled, every tensor is read,
a copy of another, or named as ignorable.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

LAYER = "{i}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """One parameter of ours and its tensor.

    Attributes:
      ours: path of the parameter.
      theirs: name of the tensor, with `{i}` for the layer.
      inputs: of a product's kernel, how many of the parameter's axes (without the layers) are summed over; 0 for what
        has no such axes. The tensor is [outputs, inputs], each flattened.
      turned: the kernel's tensor is [inputs, outputs] instead, as GPT-2's.
      part, parts: the parameter is this one of so many equal parts of the tensor's outputs, in their order.
      flat: the tensor has one axis, as a bias over heads.
      row: the tensor has a further first axis of size 1.
      first: layers before this one have no tensor, and the value 1: norms that are there for form.
    """

    ours: str
    theirs: str
    inputs: int = 0
    turned: bool = False
    part: int = 0
    parts: int = 1
    flat: bool = False
    row: bool = False
    first: int = 0

    def shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of this rule's part of a tensor, for one layer's parameter of `shape`."""
        if not self.inputs:
            flat = (math.prod(shape),) if self.flat else tuple(shape)
            return (1, *flat) if self.row else flat
        sides = math.prod(shape[: self.inputs]), math.prod(shape[self.inputs :])
        return sides if self.turned else sides[::-1]

    @property
    def axis(self) -> int:
        """The tensor's axis of outputs."""
        return 1 if self.inputs and self.turned else 0

    def ours_from(self, tensor: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """One layer's parameter of `shape` from its part of the tensor."""
        return (tensor.T if self.inputs and not self.turned else tensor).reshape(shape)

    def theirs_from(self, value: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """This rule's part of the tensor from one layer's parameter, whose part has `shape`."""
        if not self.inputs or self.turned:
            return value.reshape(shape)
        return value.reshape(shape[::-1]).T


@dataclasses.dataclass(frozen=True, kw_only=True)
class Map:
    """A model's whole name map.

    Attributes:
      rules: one for each parameter.
      copies: tensor -> the tensor that it repeats; it may be absent, and is not written.
      unread: tensor -> the tensor that it repeats: no code reads it, but it is written, since files have it.
      ignored: patterns of tensors that hold nothing learnt or that no model here uses.
      prefix: what every tensor of the headless model lacks.
    """

    rules: tuple[Rule, ...]
    copies: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unread: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    prefix: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piece:
    """One layer of one parameter and where its values stand; `layer` is None for what is not in a stack."""

    rule: Rule
    layer: int | None
    shape: tuple[int, ...]

    @property
    def tensor(self) -> str:
        """The tensor's name."""
        return self.rule.theirs if self.layer is None else self.rule.theirs.replace(LAYER, str(self.layer))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bundle:
    """Parameters and tensors that only make sense together: a fused tensor's, or a single parameter's."""

    leaves: tuple[str, ...]
    pieces: tuple[Piece, ...]

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The tensors and their shapes."""
        found: dict[str, tuple[int, ...]] = {}
        for piece in self.pieces:
            shape = list(piece.rule.shape(piece.shape))
            shape[piece.rule.axis] *= piece.rule.parts
            found[piece.tensor] = tuple(shape)
        return found


def bundles(of: Map, leaves: Mapping[str, Any]) -> list[Bundle]:
    """What must be read and written together, for all `leaves`.

    Raises:
      ValueError: the rules and the parameters do not match one to one.
    """
    by_path = {rule.ours: rule for rule in of.rules}
    if len(by_path) != len(of.rules) or set(by_path) != set(leaves):
        odd = sorted(set(by_path) ^ set(leaves))
        raise ValueError(f"the name map and the model differ in {odd or 'a parameter named twice'}")
    groups: dict[str, list[str]] = {}
    for path, rule in by_path.items():
        groups.setdefault(rule.theirs, []).append(path)
    made = []
    for paths in groups.values():
        pieces = []
        for path in paths:
            rule, shape = by_path[path], tuple(leaves[path].shape)
            if LAYER in rule.theirs:
                pieces += [Piece(rule=rule, layer=i, shape=shape[1:]) for i in range(rule.first, shape[0])]
            else:
                pieces.append(Piece(rule=rule, layer=None, shape=shape))
        made.append(Bundle(leaves=tuple(paths), pieces=tuple(pieces)))
    return made


def check(of: Map, made: Sequence[Bundle], there: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Holds a checkpoint's tensors, names and shapes, to a map.

    Raises:
      ValueError: one is missing, of another shape, or unknown.
    """
    wanted = {name: shape for bundle in made for name, shape in bundle.tensors.items()}
    for name, shape in wanted.items():
        if name not in there:
            raise ValueError(f"{where} has no tensor {name!r}, which its configuration asks for")
        if tuple(there[name]) != shape:
            raise ValueError(f"{where}: {name} is {list(there[name])} and its configuration asks for {list(shape)}")
    for name in there:
        known = (
            name in wanted
            or name in of.copies
            or name in of.unread
            or any(re.fullmatch(one, name) for one in of.ignored)
        )
        if not known:
            raise ValueError(f"{where} holds the tensor {name!r}, which the model has no place for")


def ours(bundle: Bundle, leaves: Mapping[str, Any], read) -> dict[str, np.ndarray]:
    """The parameters of a bundle; `read` gives a tensor by name. float32."""
    made = {path: np.ones(leaves[path].shape, np.float32) for path in bundle.leaves}
    name, tensor = "", np.zeros(0)
    for piece in sorted(bundle.pieces, key=lambda piece: (piece.layer or 0, piece.rule.part)):
        rule = piece.rule
        if name != piece.tensor:
            name, tensor = piece.tensor, read(piece.tensor)
        part = np.split(tensor, rule.parts, rule.axis)[rule.part]
        target = made[rule.ours] if piece.layer is None else made[rule.ours][piece.layer]
        target[...] = rule.ours_from(part, piece.shape)
    return made


def theirs(bundle: Bundle, values: Mapping[str, np.ndarray]):
    """Yields (name, tensor) of a bundle, one by one, from its parameters."""
    parts: dict[str, list[Piece]] = {}
    for piece in bundle.pieces:
        parts.setdefault(piece.tensor, []).append(piece)
    for name, pieces in parts.items():
        found = []
        for piece in sorted(pieces, key=lambda piece: piece.rule.part):
            value = values[piece.rule.ours]
            value = value if piece.layer is None else value[piece.layer]
            found.append(piece.rule.theirs_from(value, piece.rule.shape(piece.shape)))
        yield name, found[0] if len(found) == 1 else np.concatenate(found, pieces[0].rule.axis)


def attention(ours: str, theirs: Sequence[str], *, bias: bool) -> list[Rule]:
    """Rules of the four projections of one attention, whose tensors are `theirs` in the order q, k, v, out."""
    made = []
    for part, name in zip(("query", "key", "value", "out"), theirs):
        made += dense(f"{ours}/{part}", name, bias=bias, inputs=2 if part == "out" else 1)
    return made


def dense(ours: str, theirs: str, *, bias: bool = True, inputs: int = 1, turned: bool = False) -> list[Rule]:
    """Rules of a product with a kernel and its bias."""
    made = [Rule(ours=f"{ours}/kernel", theirs=f"{theirs}.weight", inputs=inputs, turned=turned)]
    return made + ([Rule(ours=f"{ours}/bias", theirs=f"{theirs}.bias", flat=True)] if bias else [])


def norm(ours: str, theirs: str, *, bias: bool, first: int = 0) -> list[Rule]:
    """Rules of a norm's scale and bias."""
    made = [Rule(ours=f"{ours}/scale", theirs=f"{theirs}.weight", first=first)]
    return made + ([Rule(ours=f"{ours}/bias", theirs=f"{theirs}.bias", first=first)] if bias else [])


def table(ours: str, theirs: str) -> Rule:
    """The rule of a table of rows."""
    return Rule(ours=f"{ours}/embedding", theirs=theirs)


def bert_layers(theirs: str, ours: str) -> list[Rule]:
    """Rules of a layer as BERT, RoBERTa and ELECTRA name it."""
    inside = [f"{theirs}.attention.{part}" for part in ("self.query", "self.key", "self.value", "output.dense")]
    return [
        *attention(f"{ours}/self_attention", inside, bias=True),
        *norm(f"{ours}/self_attention_norm", f"{theirs}.attention.output.LayerNorm", bias=True),
        *dense(f"{ours}/mlp/wi", f"{theirs}.intermediate.dense"),
        *dense(f"{ours}/mlp/wo", f"{theirs}.output.dense"),
        *norm(f"{ours}/mlp_norm", f"{theirs}.output.LayerNorm", bias=True),
    ]


def bert_tables(theirs: str) -> list[Rule]:
    """Rules of the tables and their norm as BERT, RoBERTa and ELECTRA name them."""
    return [
        table("token_embedder", f"{theirs}.word_embeddings.weight"),
        table("encoder/position_embedder", f"{theirs}.position_embeddings.weight"),
        table("encoder/type_embedder", f"{theirs}.token_type_embeddings.weight"),
        *norm("encoder/embedding_norm", f"{theirs}.LayerNorm", bias=True),
    ]

"""The named shapes that step.py measures: a model, and the rows, inputs and targets of a batch."""

import dataclasses

import numpy as np

from models import encdec, encoder, heads, initial, stack

VOCABULARY = {"t5": 32128, "mlm": 150_000}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """A model on batches of `rows` rows of `inputs` encoder tokens and `targets` decoder tokens, no padding.

    `predicted` tokens of a row have a loss. `rows` is what an accelerator is given, `cpu_rows` what a CPU is.
    """

    model: encdec.EncoderDecoder | encoder.Encoder
    inputs: int
    targets: int
    predicted: int
    rows: int
    cpu_rows: int = 8

    def batch(self, rows: int) -> dict[str, np.ndarray]:
        """Random tokens, in the batch contract's form."""
        random = np.random.default_rng(0)

        def side(name: str, length: int) -> dict[str, np.ndarray]:
            places = np.broadcast_to(np.arange(length, dtype=np.int32), (rows, length))
            ids = random.integers(3, 32000, (rows, length)).astype(np.int32)
            return {f"{name}_inputs": ids, f"{name}_segments": np.ones_like(ids), f"{name}_positions": places.copy()}

        batch = side("encoder", self.inputs)
        if self.targets:
            batch |= side("decoder", self.targets)
        else:
            chosen = random.permuted(np.tile(np.arange(self.inputs, dtype=np.int32), (rows, 1)), axis=1)
            batch["target_positions"] = np.sort(chosen[:, : self.predicted], axis=1)
        batch["targets"] = random.integers(3, 32000, (rows, self.predicted)).astype(np.int32)
        batch["weights"] = np.ones((rows, self.predicted), np.float32)
        batch["part"] = np.zeros(rows, np.int32)
        return batch

    def tokens(self, rows: int) -> int:
        """Inputs and targets of a batch."""
        return rows * (self.inputs + self.targets)

    def flops(self, rows: int) -> float:
        """Model FLOPs of an update: three times those of the forward pass, products and attention alone."""
        size = {"rows": rows, "inputs": self.inputs, "targets": self.targets, "predicted": self.predicted}
        return 3 * sum(part.forward_flops for part in self.model.costs(**size))


def _t5(*, layers: int, width: int, heads: int, mlp: int, rows: int, dtype: str, remat: str, unroll: bool) -> Shape:
    """T5 1.1 (arXiv:1910.10683 and its successor's release): gated GELU, untied output, no dropout."""
    one = stack.Stack(
        layers=layers,
        width=width,
        heads=heads,
        head_dim=64,
        mlp=mlp,
        activation="gelu_tanh",
        gated=True,
        norm="rmsnorm",
        positions="relative",
        attention_bias=False,
        mlp_bias=False,
        scale_scores=False,
        init=initial.Initial(scheme="fan_in", std=1.0, embedding=1.0),
        remat=remat,
        unroll=layers if unroll else 1,
    )
    model = encdec.EncoderDecoder(encoder=one, decoder=one, vocabulary=VOCABULARY["t5"], tied=False, dtype=dtype)
    return Shape(model=model, inputs=512, targets=114, predicted=114, rows=rows)


def _mlm(*, layers: int, width: int, rows: int, dtype: str, remat: str, unroll: bool) -> Shape:
    """The MLM encoder of Soltan et al. 2023 (arXiv:2306.08756): 150 000 pieces, 15 % of 512 tokens predicted."""
    one = stack.Stack(
        layers=layers,
        width=width,
        heads=width // 64,
        mlp=4 * width,
        norm_position="pre",
        dropout=0.0,
        remat=remat,
        unroll=layers if unroll else 1,
    )
    model = encoder.Encoder(stack=one, vocabulary=VOCABULARY["mlm"], head=heads.MaskedLM(), dtype=dtype)
    return Shape(model=model, inputs=512, targets=0, predicted=77, rows=rows)


NAMES = ("t5_1_1_small", "t5_1_1_base", "t5_1_1_large", "mlm_12x1024")


def named(name: str, dtype: str, *, remat: str = "none", unroll: bool = False) -> Shape:
    """The shape of that name, computing in `dtype`; `unroll` lays the layers out instead of looping over them."""
    engine = {"dtype": dtype, "remat": remat, "unroll": unroll}
    match name:
        case "t5_1_1_small":
            return _t5(layers=8, width=512, heads=6, mlp=1024, rows=128, **engine)
        case "t5_1_1_base":
            return _t5(layers=12, width=768, heads=12, mlp=2048, rows=128, **engine)
        case "t5_1_1_large":
            return _t5(layers=24, width=1024, heads=16, mlp=2816, rows=64, **engine)
        case "mlm_12x1024":
            return _mlm(layers=12, width=1024, rows=64, **engine)
        case _:
            raise ValueError(f"shape {name!r} is unknown; choose one of {', '.join(NAMES)}")

import dataclasses
import math

import pytest

from recipes import ledger, peaks


@dataclasses.dataclass(frozen=True)
class Cost:
    name: str
    prefix: str
    forward_flops: float
    layers: int = 0
    layer_matmul_params: float = 0
    apart: bool = False


@dataclasses.dataclass(frozen=True)
class Leaf:
    shape: tuple[int, ...]


PARAMS = {
    "token_embedder/embedding": Leaf((1000, 1024)),
    "encoder/layers/mlp/wi/kernel": Leaf((12, 1024, 4096)),
    "decoder/layers/self_attention/query/kernel": Leaf((12, 1024, 1024)),
    "decoder/layers/cross_attention/query/kernel": Leaf((12, 1024, 1024)),
    "mlm_head/dense/kernel": Leaf((1024, 1024)),
}
LAYER = 4 * 1024**2 + 2 * 1024 * 4096
ENCODER = (Cost("embedding", "token_embedder/.*", 0.0), Cost("encoder", "encoder/.*", 100.0, 12, LAYER))


def decoder(layers: int) -> tuple[Cost, ...]:
    return (
        Cost("decoder", "decoder/.*", 110.0, layers, LAYER),
        Cost("logits", "token_embedder/embedding", 10.0),
    )


def units(costs, updates, frozen=(), rows=2048, inputs=512):
    return updates * ledger.stage_cost(costs, frozen, PARAMS, rows, inputs).training_units


FROZEN = ("(token_embedder|encoder)/.*",)


def test_training_units_are_the_table_of_soltan_et_al():
    mlm = ENCODER + (Cost("head", "mlm_head/.*|token_embedder/.*", 5.0),)
    roberta = units(mlm, 500_000)
    assert roberta == pytest.approx(5.0)
    assert units(ENCODER + decoder(12), 500_000) == pytest.approx(10.0)
    assert units(ENCODER + decoder(2), 500_000) == pytest.approx(5.83, abs=0.005)
    assert units(ENCODER + decoder(1), 500_000) == pytest.approx(5.42, abs=0.005)
    assert roberta + units(ENCODER + decoder(12), 500_000, FROZEN) == pytest.approx(12.5)
    unfrozen = units(ENCODER + decoder(12), 200_000, FROZEN) + units(ENCODER + decoder(12), 150_000)
    assert roberta + unfrozen == pytest.approx(11.0)


def test_units_scale_with_tokens_and_width():
    assert units(ENCODER, 100, rows=1024, inputs=256) == pytest.approx(units(ENCODER, 100) / 4)
    narrow = (Cost("encoder", "encoder/.*", 1.0, 12, LAYER / 4),)
    assert units(narrow, 100) == pytest.approx(units(ENCODER, 100) / 4)


@pytest.mark.parametrize(
    ("frozen", "backward"),
    [
        ((), 2 * 220),
        # All upstream of the decoder is frozen and the shared table with it: one forward for the encoder, and the
        # gradient passes through the logits without weights of its own.
        (FROZEN, 2 * 110 + 10),
        # The encoder's gradient has to come through the frozen decoder.
        (("decoder/.*",), 2 * 100 + 110 + 2 * 10),
        # The table is the first thing used: the frozen layers pass its gradient on.
        (("(encoder|decoder)/.*",), 100 + 110 + 2 * 10),
        # Half of the decoder's parameters move.
        ((*FROZEN, "decoder/layers/self_attention/.*"), 110 + 55 + 10),
        ((".*",), 0),
    ],
)
def test_backward_passes(frozen, backward):
    cost = ledger.stage_cost(ENCODER + decoder(12), frozen, PARAMS, rows=8, inputs=512)
    assert (cost.forward, cost.backward, cost.flops) == pytest.approx((220, backward, 220 + backward))
    assert cost.tokens == 8 * 512


def test_a_part_of_unknown_parameters_is_refused():
    with pytest.raises(ValueError, match=r"part 'encoder' uses parameters 'encodr/\.\*' and the model has none such"):
        ledger.stage_cost((Cost("encoder", "encodr/.*", 1.0),), (), PARAMS, 1, 1)


def test_a_stage_shared_by_two_lineages_counts_once():
    def stage(key, flops, units):
        return ledger.Spent(key=key, tokens=10 * flops, flops=flops, training_units=units)

    mlm, s2s = stage("mlm", 50.0, 5.0), stage("bart", 100.0, 10.0)
    frozen, unfrozen = stage("frozen", 30.0, 3.0), stage("unfrozen", 30.0, 3.0)
    both = ledger.total([mlm, mlm, frozen, unfrozen])
    assert (both.flops, both.training_units, both.key) == (110.0, 11.0, "mlm + frozen + unfrozen")
    apart = ledger.total([mlm, s2s])
    assert ledger.saved(both, apart).training_units == pytest.approx(4 / 15)
    assert ledger.saved(ledger.total([mlm, stage("x", 75, 7.5)]), apart).training_units == pytest.approx(2.5 / 15)
    assert ledger.saved(apart, both).flops < 0
    assert ledger.total([]).flops == 0
    assert math.isclose(ledger.saved(both, apart).tokens, ledger.saved(both, apart).flops)
    with pytest.raises(ValueError, match="'mlm' comes twice"):
        ledger.total([mlm, stage("mlm", 51.0, 5.0)])


def test_spent_is_cost_times_steps():
    cost = ledger.StageCost(forward=1.0, backward=2.0, tokens=512, training_units=1e-6)
    assert ledger.spent("a", cost, 16) == ledger.Spent(key="a", tokens=8192, flops=48.0, training_units=16e-6)


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("TPU v4", 275e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5", 459e12),
        ("TPU v5p", 459e12),
        ("TPU v6 lite", 918e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("cpu", None),
    ],
)
def test_peaks(kind, peak):
    assert peaks.flops(kind) == peak

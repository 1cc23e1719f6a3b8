"""How parameters lie on a mesh: rules that can't be or do nothing are refused, and no table is gathered whole."""

import dataclasses
import math
import re

import jax
import pytest

from recipes import cli, config, counts, hlo, mesh, plan, sharding, step
from recipes import state as states

NAME, STORE = "t5_1_1_base", "STORE='stores/none'"
TABLE = (1536, 64)


class Shapes:
    """Data without a store."""

    kind = "encdec"

    def __init__(self, features):
        self.features = features

    def spec(self, batch):
        return self.features

    def parts(self):
        return ("all",)


def load(*sets):
    return config.load(NAME, [STORE, "VOCABULARY=1536", "WIDTH=64", *sets], overlays=["gin/tiny.gin"]).value


def program(*sets):
    """The text of the step compiled for a mesh of eight."""
    of = load("Mesh.data=1", *sets)
    over = mesh.build(of.mesh, jax.devices()[:8])
    spec = of.stages[0].data.spec(of.stages[0].batch)
    stage = dataclasses.replace(of.stages[0], data=Shapes(spec))
    batch = {name: jax.ShapeDtypeStruct(*like, sharding=mesh.rows(over)) for name, like in spec.items()}
    return step.lower_train(stage, of.rules, states.layout(stage, of.rules, over), batch).compile().as_text()


def exchanged(*sets):
    """(whole tables exchanged between devices, number of exchanges) in the compiled step of a mesh of eight."""
    lines = [line for part in hlo.parse(program(*sets)).computations.values() for line in part.values()]
    moved = [line for line in lines if line.operation in ("all-gather", "all-reduce", "reduce-scatter", "all-to-all")]
    whole = [line for line in moved if any(shape.sides == TABLE for shape in line.shapes)]
    return [" ".join(re.findall(r'op_name="([^"]*)"', line.rest)) for line in whole], len(moved)


def test_chunks_of_logits_add_nothing_to_what_devices_exchange():
    one, many = (
        counts.count(program("Mesh.data=8", f"LanguageModel.chunk={chunk}")).collectives for chunk in (4096, 8)
    )
    assert one["all-reduce"] > 4 * math.prod(TABLE)
    assert many["all-reduce"] == pytest.approx(one["all-reduce"], rel=0.01)


def test_what_the_sequence_axis_cannot_split_is_refused():
    sets = ("Mesh.data=-1", "Mesh.sequence=4", "LENGTH=128", "TARGETS=30", "encoder/stack.Stack.attention='bucketed'")
    found = plan.make(load(*sets), devices=8).problems
    assert any("decoder rows of 30 positions don't divide over Mesh.sequence = 4" in line for line in found), found
    assert any("encoder/Stack.attention = 'bucketed' needs them whole" in line for line in found), found
    assert not plan.make(load("Mesh.data=-1", "Mesh.sequence=4", "LENGTH=128", "TARGETS=32"), devices=8).problems


@pytest.mark.slow
def test_no_token_table_nor_its_gradient_is_gathered_whole():
    split, alone = exchanged("Mesh.fsdp=4", "Mesh.tensor=2"), exchanged("Mesh.fsdp=8")
    assert split[1] > 0 and not split[0], "the tensor axis splits vocabulary, output kernel included"
    assert alone[1] > 0 and not any("token_embedder" in name for name in alone[0])
    assert alone[0], "fsdp alone gathers the output's kernel, as any other kernel, for its product"


@pytest.mark.parametrize(
    ("rules", "sizes", "message"),
    [
        ({"mlp": "tensr"}, ("Mesh.data=8",), "Rules.mlp = 'tensr' is no mesh axis; did you mean 'tensor'"),
        ({"classes": "tensor"}, ("Mesh.data=8",), "Rules.classes = 'tensor' is used by nothing"),
        ({"mlp": "fsdp"}, ("Mesh.data=1", "Mesh.fsdp=8"), "both go to mesh axis 'fsdp'"),
        ({}, ("Mesh.data=1", "Mesh.tensor=8"), "doesn't divide over mesh axis 'tensor'"),
    ],
)  # fmt: skip
def test_rules_that_cannot_be_or_do_nothing_are_problems(rules, sizes, message):
    of = load(*sizes)
    found = plan.make(dataclasses.replace(of, rules=dataclasses.replace(of.rules, **rules)), devices=8).problems
    assert any(message in line for line in found), found


def test_an_axis_that_splits_nothing_is_a_problem():
    of = load("Mesh.data=4", "Mesh.tensor=2")
    rules = dataclasses.replace(of.rules, vocab=None, heads=None, kv_heads=None, mlp=None)
    assert not plan.make(of, devices=8).problems
    found = plan.make(dataclasses.replace(of, rules=rules), devices=8).problems
    assert len(found) == 1 and "'tensor' has 2 devices and splits no parameter" in found[0]


def test_the_table_names_every_parameter_and_sums_to_the_layout(capsys):
    of = load("Mesh.data=2", "Mesh.fsdp=2", "Mesh.tensor=2")
    text = sharding.table(of, 8)
    leaves = of.stages[0].model.abstract()
    assert len(text) == 1 + len(leaves)
    row = next(line for line in text if "token_embedder/embedding" in line)
    assert row.split() == ["token_embedder/embedding", "1536x64", "vocab,", "embed", "tensor,", "fsdp", "98,304"]
    local = plan.make(of, devices=8).stages[0]["bytes_per_device"]["params"]
    assert f"{local:,} of" in text[0]
    assert cli.main(["plan", NAME, "--sharding", "--devices", "1", "--set", STORE]) == 0
    assert "logits/kernel" in capsys.readouterr().out


def test_the_optimizer_lies_as_its_parameters():
    of = load("Mesh.data=2", "Mesh.fsdp=2", "Mesh.tensor=2")
    layout = states.layout(of.stages[0], of.rules, mesh.build(of.mesh, jax.devices()[:8]))
    moments = [leaf for leaf in jax.tree.leaves(layout.shapes.opt_state) if leaf.shape]
    shardings = {leaf.shape: leaf.sharding for leaf in layout.shapes.params.values()}
    assert len(moments) == 2 * len(layout.shapes.params)
    assert all(leaf.sharding == shardings[leaf.shape] for leaf in moments if leaf.shape == TABLE)

"""Where parameters lie: by one table, with every conflict named."""

import types

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from recipes import mesh, recipe

SHAPE = {"data": 2, "fsdp": 2, "tensor": 2}


def leaf(**axes):
    return types.SimpleNamespace(axes=tuple(axes), shape=tuple(axes.values()))


def test_axes_follow_the_table():
    rules = recipe.Rules()
    assert mesh.spec("e", leaf(vocab=8, embed=4), rules, SHAPE) == PartitionSpec("tensor", "fsdp")
    assert mesh.spec("q", leaf(layers=3, embed=4, heads=2, head_dim=5), rules, SHAPE) == PartitionSpec(
        None, "fsdp", "tensor"
    )
    assert mesh.spec("n", leaf(layers=3, norm=4), rules, SHAPE) == PartitionSpec()
    assert mesh.spec("e", leaf(vocab=7, embed=5), rules, {"data": 8, "fsdp": 1, "tensor": 1}) == PartitionSpec()


def test_conflicts_name_both_sides():
    with pytest.raises(recipe.Mistake, match="q: logical axes 'embed' and 'mlp' both go to mesh axis 'fsdp'"):
        mesh.spec("q", leaf(embed=4, mlp=4), recipe.Rules(mlp="fsdp"), SHAPE)
    with pytest.raises(
        recipe.Mistake, match="e: its 'vocab' dimension of 7 doesn't divide over mesh axis 'tensor' of 2"
    ):
        mesh.spec("e", leaf(vocab=7, embed=4), recipe.Rules(), SHAPE)


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [((-1, 1, 1), (8, 1, 1, 1)), ((2, -1, 2), (2, 2, 1, 2)), ((1, 8, 1), (1, 8, 1, 1))],
)
def test_one_axis_takes_what_is_left(sizes, wanted):
    spec = recipe.Mesh(data=sizes[0], fsdp=sizes[1], tensor=sizes[2])
    assert tuple(mesh.sizes(spec, 8).values()) == wanted
    assert tuple(mesh.build(spec).shape.values()) == wanted


@pytest.mark.parametrize("sizes", [(3, -1, 1), (2, 2, 1), (16, 1, 1)])
def test_a_mesh_that_does_not_fit_says_so(sizes):
    with pytest.raises(recipe.Mistake, match="doesn't fit 8 devices: the sizes must multiply to 8; set one axis to -1"):
        mesh.sizes(recipe.Mesh(data=sizes[0], fsdp=sizes[1], tensor=sizes[2]), 8)


def test_rows_are_split_over_data_and_fsdp():
    over = mesh.build(recipe.Mesh(data=2, fsdp=2, tensor=2))
    put = mesh.put({"x": np.arange(16).reshape(8, 2)}, over)["x"]
    assert {shard.data.shape for shard in put.addressable_shards} == {(2, 2)}
    np.testing.assert_array_equal(jax.device_get(put), np.arange(16).reshape(8, 2))

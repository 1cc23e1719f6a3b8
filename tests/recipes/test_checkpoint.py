"""A checkpoint is complete or it isn't there; damage is seen; what is read is what was written."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recipes import checkpoint, leafwise, recipe

PARAMS = {"encoder/layers/k": jnp.arange(60.0).reshape(3, 4, 5), "token/embedding": jnp.ones((3, 4))}
OPT_STATE = optax.adam(1e-3).init(PARAMS)


def saved(folder, *steps, keep=2, keep_every=None):
    store = checkpoint.Checkpoints(folder, recipe.Save(keep=keep, keep_every=keep_every))
    for step in steps:
        params = {path: value + step for path, value in PARAMS.items()}
        store.save(step, params, OPT_STATE, {"step": step, "params_digest": checkpoint.digest(params)})
    store.wait()
    return store


def abstract():
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), (PARAMS, OPT_STATE))


def test_what_is_read_is_what_was_written(tmp_path):
    store = saved(tmp_path, 5)
    params, opt_state = store.restore(5, *abstract())
    np.testing.assert_array_equal(params["encoder/layers/k"], PARAMS["encoder/layers/k"] + 5)
    assert jax.tree.structure(opt_state) == jax.tree.structure(OPT_STATE)
    assert checkpoint.manifest(tmp_path)["params_digest"] == checkpoint.digest(params)
    assert {path: leaf.shape for path, leaf in checkpoint.abstract(tmp_path / "checkpoints" / "5").items()} == {
        path: value.shape for path, value in PARAMS.items()
    }
    store.close()


def test_retention_by_count_and_by_multiple(tmp_path):
    saved(tmp_path, 1, 2, 3, 4, 5, keep=2, keep_every=2).close()
    assert checkpoint.steps(tmp_path / "checkpoints") == [2, 4, 5]


def test_retention_by_time():
    times = {10: 0.0, 20: 1800.0, 30: 3600.0, 40: 5400.0, 50: 7300.0, 60: 7400.0}
    assert checkpoint.kept(recipe.Save(keep=1), times) == {60}
    assert checkpoint.kept(recipe.Save(keep=1, keep_hours=1.0), times) == {10, 30, 50, 60}
    assert checkpoint.kept(recipe.Save(keep=2, keep_every=20), times) == {20, 40, 50, 60}


@pytest.mark.parametrize("harm", ["flip", "truncate", "remove"])
def test_a_damaged_newest_checkpoint_is_set_aside_and_the_one_before_used(tmp_path, harm, caplog):
    saved(tmp_path, 1, 2).close()
    files = [file for file in (tmp_path / "checkpoints" / "2" / "opt_state").rglob("*") if file.is_file()]
    victim = max(files, key=lambda file: file.stat().st_size)
    data = bytearray(victim.read_bytes())
    if harm == "remove":
        victim.unlink()
    else:
        data[len(data) // 2] ^= 1
        victim.write_bytes(data if harm == "flip" else data[:-1])
    store = checkpoint.Checkpoints(tmp_path, recipe.Save())
    assert store.newest() == 1
    assert "is damaged" in caplog.text and (tmp_path / "damaged-2").is_dir()
    store.save(2, PARAMS, OPT_STATE, {"step": 2})
    store.wait()
    assert store.newest() == 2
    store.close()


def test_a_folder_without_its_last_file_was_interrupted(tmp_path):
    saved(tmp_path, 1, 2).close()
    (tmp_path / "checkpoints" / "2" / checkpoint.COMPLETE).unlink()
    pathlib.Path(tmp_path / "checkpoints" / "3.orbax-checkpoint-tmp").mkdir()
    store = checkpoint.Checkpoints(tmp_path, recipe.Save())
    assert store.newest() == 1
    assert sorted(child.name for child in (tmp_path / "checkpoints").iterdir()) == ["1"]
    store.close()


def test_digest_sees_values_names_shapes_and_dtypes():
    digests = {
        checkpoint.digest(params)
        for params in (
            {"a": np.zeros((2, 3), np.float32)},
            {"b": np.zeros((2, 3), np.float32)},
            {"a": np.zeros((3, 2), np.float32)},
            {"a": np.zeros((2, 3), np.int32)},
            {"a": np.zeros((2, 3), np.float32) - 0.0 + np.float32(1e-30)},
        )
    }
    assert len(digests) == 5


def test_leaf_by_leaf_gives_the_same_checkpoint(tmp_path):
    saved(tmp_path / "whole", 0).close()
    with leafwise.Writer(tmp_path / "leaves", 0, {"step": 0}) as writer:
        for path, value in PARAMS.items():
            writer.put(path, np.asarray(value))
    read = []
    for name in ("whole", "leaves"):
        root = tmp_path / name / "checkpoints" / "0"
        assert checkpoint.damage(root) is None
        read.append(checkpoint.digest(checkpoint.read(root, checkpoint.abstract(root))))
    assert read[0] == read[1]


def test_leaf_by_leaf_leaves_nothing_after_an_error(tmp_path):
    with pytest.raises(RuntimeError), leafwise.Writer(tmp_path, 0, {}) as writer:
        writer.put("a", np.zeros(3))
        raise RuntimeError("interrupted")
    assert checkpoint.steps(tmp_path / "checkpoints") == []

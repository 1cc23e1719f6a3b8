"""T5X checkpoints: the real one of the project's data, and made-up ones in the other layouts."""

import os
import pathlib

import msgpack
import numpy as np
import pytest
import tensorstore

from models.families import rules
from recipes import checkpoint, cli
from recipes.exchange import imports

REAL = pathlib.Path(os.environ.get("BATON_DATA", "../shared/data")) / "t5x" / "test_t5_tiny.checkpoint_0"


def test_the_real_checkpoint_runs(tmp_path, capsys):
    if not REAL.is_file():
        pytest.skip(f"{REAL} is absent")
    stage = tmp_path / "run" / "tiny"
    assert cli.main(["convert", f"t5x:{REAL}", str(stage)]) == 0
    assert "parity: largest difference 0.00e+00" in capsys.readouterr().out
    model = imports.open_t5x(str(REAL)).model
    assert (model.encoder.layers, model.decoder.layers, model.encoder.heads, model.encoder.size) == (2, 2, 4, 3)
    assert not model.tied and model.encoder.gated
    root = stage / "checkpoints" / "0"
    params = checkpoint.read(root, checkpoint.abstract(root))
    ids = np.arange(10, 24, dtype=np.int32).reshape(2, 7)
    side = {"inputs": ids, "segments": np.ones_like(ids), "positions": np.tile(np.arange(7, dtype=np.int32), (2, 1))}
    batch = {f"{name}_{key}": value for name in ("encoder", "decoder") for key, value in side.items()}
    output = model.apply(params, batch)
    found = np.asarray(output.readout.logits(output.hidden))
    assert found.shape == (2, 7, 32128) and np.isfinite(found).all() and found.std() > 0
    encoded = np.asarray(model.encode(params, batch))
    assert encoded.shape == (2, 7, 8) and np.isfinite(encoded).all() and encoded.std() > 0


@pytest.mark.parametrize("zarr", [False, True])
def test_scanned_layers_are_those_apart(tmp_path, zarr):
    """The same parameters with layers apart, and stacked on axis 1 with heads apart, in the file or in zarr beside it."""
    rng, layers = np.random.default_rng(0), 3
    inner = {f"{part}/kernel": (8, 2, 5) for part in ("query", "key", "value")} | {"out/kernel": (2, 5, 8)}
    shapes = {"token_embedder/embedding": (11, 8)}
    blocks = {}
    for side, names in (
        ("encoder", {"attention": "pre_attention_layer_norm"}),
        (
            "decoder",
            {
                "self_attention": "pre_self_attention_layer_norm",
                "encoder_decoder_attention": "pre_cross_attention_layer_norm",
            },
        ),
    ):
        shapes |= {f"{side}/{side}_norm/scale": (8,), f"{side}/relpos_bias/rel_embedding": (2, 8)}
        for name, norm in names.items():
            blocks |= {f"{side}/{name}/{part}": shape for part, shape in inner.items()} | {f"{side}/{norm}/scale": (8,)}
        blocks |= {f"{side}/mlp/wi/kernel": (8, 6), f"{side}/mlp/wo/kernel": (6, 8)}
        blocks[f"{side}/pre_mlp_layer_norm/scale"] = (8,)
    apart = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    scanned = dict(apart)
    for name, shape in blocks.items():
        side, rest = name.split("/", 1)
        values = rng.normal(size=(layers, *shape)).astype(np.float32)
        scanned[f"{side}/{side}/{rest}"] = np.moveaxis(values, 0, 1)
        apart |= {f"{side}/layers_{i}/{rest}": _joined(rest, values[i]) for i in range(layers)}
    _write(tmp_path / "apart", apart, False)
    _write(tmp_path / "scanned", scanned, zarr)
    left, right = imports.open_t5x(str(tmp_path / "apart")), imports.open_t5x(str(tmp_path / "scanned"))
    assert left.model == right.model and left.model.encoder.layers == layers and left.model.tied
    assert set(left.reader._leaves) != set(right.reader._leaves)
    leaves = left.model.abstract()
    for bundle in left.bundles:
        found = rules.ours(bundle, leaves, right.read)
        for path, value in rules.ours(bundle, leaves, left.read).items():
            np.testing.assert_array_equal(value, found[path])


def test_what_is_no_checkpoint_is_refused(tmp_path, capsys):
    (tmp_path / "x").write_bytes(b"nothing")
    assert cli.main(["convert", f"t5x:{tmp_path / 'x'}", str(tmp_path / "y")]) == 2
    assert "is no T5X checkpoint" in capsys.readouterr().err and not (tmp_path / "y").exists()


def _joined(name, value):
    if value.ndim < 3:
        return value
    return value.reshape(-1, value.shape[-1]) if "out" in name else value.reshape(value.shape[0], -1)


def _write(folder, leaves, zarr):
    """A checkpoint of T5X: msgpack, with arrays in it or as TensorStore specs."""
    folder.mkdir()
    tree = {}
    for name, value in leaves.items():
        node = tree
        *parents, last = name.split("/")
        for parent in parents:
            node = node.setdefault(parent, {})
        if zarr:
            file = "target." + name.replace("/", ".")
            spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(folder / file)}}
            store = tensorstore.open(spec, create=True, dtype=tensorstore.float32, shape=value.shape).result()
            store.write(value).result()
            node[last] = {"driver": "zarr", "kvstore": {"driver": "gfile", "path": f"elsewhere/{file}"}}
        else:
            packed = msgpack.packb((value.shape, value.dtype.name, value.tobytes()), use_bin_type=True)
            node[last] = msgpack.ExtType(1, packed)
    (folder / "checkpoint").write_bytes(msgpack.packb({"version": 3, "optimizer": {"target": tree}}))

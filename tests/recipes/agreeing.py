"""One of two processes that decide together; started by test_hosts.py, writes what it found out as JSON."""

import json
import pathlib
import sys
import types

import jax
import numpy as np
from etils import epath

from recipes import agree, checkpoint, hosts, mesh, recipe, scores, shares


def mistake(call) -> str:
    try:
        call()
    except recipe.Mistake as found:
        return str(found)
    raise AssertionError("no mistake was raised")


def raise_mistake():
    raise recipe.Mistake("only 0 sees it")


def placed_out_of_order(batch: np.ndarray) -> dict:
    """A mesh on which the processes' rows take turns, as they do where hosts are blocks of a torus."""
    devices = np.asarray(jax.devices()).reshape(2, 2).T.reshape(4, *[1] * (len(mesh.AXES) - 1))
    over = jax.sharding.Mesh(devices, mesh.AXES)
    share = shares.own(over)
    rows = len(batch) // share["process_count"]
    mine = {"x": batch[share["process_index"] * rows :][:rows]}
    return {
        "gathered": shares.gather(mine, over)["x"].tolist(),
        "placed": agree.whole(mesh.put(mine, over)["x"]).tolist(),
    }


def answers(over: jax.sharding.Mesh) -> list:
    """Seven examples in eight rows, labelled by a model that knows."""
    share = shares.own(over)
    rows = slice(share["process_index"] * 4, share["process_index"] * 4 + 4)
    number = np.arange(8, dtype=np.int32)
    batch = {"targets": number, "weights": (number < 7).astype(np.float32), "part": number % 3}
    model = types.SimpleNamespace(
        apply=lambda params, batch: types.SimpleNamespace(logits=jax.nn.one_hot(batch["targets"], 8))
    )
    own = {name: value[rows] for name, value in batch.items()}
    found = scores.Accuracy().answers(model, {}, None, [own], over)
    assert all(answer.predicted == answer.wanted for answer in found)
    return [[int(answer.wanted[0]), answer.part] for answer in found]


def main(port: str, process: int, out: str) -> None:
    jax.config.update("jax_num_cpu_devices", 2)
    agree._VISIBLE_WITHIN = 0.0
    with hosts.joined(hosts.Place(coordinator=f"127.0.0.1:{port}", processes=2, process=process)):
        folder = epath.Path(out + ".dir")
        folder.mkdir()
        over = mesh.build(recipe.Mesh())
        wishes = agree.Wishes(over)
        asked = [(False, False), (False, False), (process == 1, False), (False, process == 0), (False, False)]
        spread = jax.make_array_from_callback(
            (8,), mesh.rows(over), lambda index: np.arange(8, dtype=np.float32)[index]
        )
        found = {
            "process": process,
            "first": agree.first(lambda: f"of {process}"),
            "everyone": agree.everyone("of 0" if process == 0 else "of 1 and longer"),
            "mistakes": {
                "first": mistake(lambda: agree.first(raise_mistake)),
                "check": mistake(lambda: agree.check(lambda: "only 1 sees it" if process else None)),
                "same": mistake(lambda: agree.same("x", {"the recipe": f"a = 1\nb = {process + 1}"})),
                "shared": mistake(lambda: agree.shared(folder)),
            },
            "wishes": [list(wishes(*each)) for each in asked],
            **placed_out_of_order(np.arange(16).reshape(8, 2)),
            "answers": answers(over),
            "digest": checkpoint.digest({"a": spread}),
        }
    pathlib.Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])

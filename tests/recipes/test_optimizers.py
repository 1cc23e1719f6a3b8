import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from optax import contrib

from recipes import optimizers, schedules

RATE = schedules.Linear(peak=1e-2, warmup=1, steps=20)


@dataclasses.dataclass(frozen=True)
class Leaf:
    shape: tuple[int, ...]
    axes: tuple[str, ...]


LAYERS = 3
SHAPES = {
    "token_embedder/embedding": Leaf((40, 16), ("vocab", "embed")),
    "encoder/relative_bias/embedding": Leaf((8, 4), ("buckets", "heads")),
    "encoder/layers/self_attention/query/kernel": Leaf((LAYERS, 16, 4, 8), ("layers", "embed", "heads", "head_dim")),
    "encoder/layers/self_attention/query/bias": Leaf((LAYERS, 4, 8), ("layers", "heads", "head_dim")),
    "encoder/layers/self_attention/out/kernel": Leaf((LAYERS, 4, 8, 16), ("layers", "heads", "head_dim", "embed")),
    "encoder/layers/mlp/wi/kernel": Leaf((LAYERS, 16, 24), ("layers", "embed", "mlp")),
    "encoder/layers/mlp_norm/scale": Leaf((LAYERS, 16), ("layers", "norm")),
}
ALL = (
    optimizers.AdamW(schedule=RATE, decay=0.1),
    optimizers.Adafactor(schedule=RATE, factor_from=8, decay=0.1),
    optimizers.Adafactor(schedule=RATE, factor_from=64, momentum=0.9, relative=False, threshold=None),
    optimizers.Lion(schedule=RATE),
    optimizers.Muon(schedule=RATE, decay=0.1),
)


def names(optimizer):
    return f"{type(optimizer).__name__}-{getattr(optimizer, 'momentum', '')}"


def draw(shapes, seed):
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    # Layers of quite different sizes: whatever mixes them is seen.
    sizes = jnp.asarray([1.0, 10.0, 0.1])
    values = {}
    for key, (path, leaf) in zip(keys, shapes.items()):
        value = jax.random.normal(key, leaf.shape)
        if leaf.axes[:1] == ("layers",):
            value = value * sizes.reshape(-1, *(1 for _ in leaf.shape[1:]))
        values[path] = value
    return values


def follow(transformation, params, shapes, steps=3, stock=False):
    state = transformation.init(params)

    @jax.jit
    def update(params, state, grads, step):
        with jax.numpy_dtype_promotion("standard" if stock else "strict"):
            updates, state = transformation.update(grads, state, params, **({} if stock else {"step": step}))
        return optax.apply_updates(params, updates), state

    for step in range(steps):
        params, state = update(params, state, draw(shapes, 100 + step), jnp.asarray(step, jnp.int32))
    return params, state


def assert_close(ours, theirs, rtol=2e-5, atol=1e-6):
    assert ours.keys() == theirs.keys()
    for path in ours:
        np.testing.assert_allclose(ours[path], theirs[path], rtol=rtol, atol=atol, err_msg=path)


@pytest.mark.parametrize("optimizer", ALL, ids=names)
def test_every_parameter_moves_and_stays_float32(optimizer):
    params = draw(SHAPES, 0)
    moved, state = follow(optimizers.make(optimizer, SHAPES, steps=20), params, SHAPES)
    for path, value in moved.items():
        assert value.dtype == jnp.float32 and np.isfinite(value).all()
        assert (np.abs(value - params[path]) > 0).mean() > 0.95, path
    assert all(leaf.dtype in (jnp.float32, jnp.int32) for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (optimizers.AdamW(schedule=RATE, clip=None, b2=0.95), optax.adamw(RATE, b2=0.95, weight_decay=0.0)),
        (optimizers.Lion(schedule=RATE, clip=None), optax.lion(RATE, weight_decay=0.0)),
    ],
)
def test_elementwise_ones_are_optax(ours, theirs):
    params = draw(SHAPES, 0)
    moved, _ = follow(optimizers.make(ours, SHAPES, steps=20), params, SHAPES)
    assert_close(moved, follow(theirs, params, SHAPES, stock=True)[0])


@pytest.mark.parametrize("momentum", [None, 0.9])
def test_adafactor_on_one_layer_is_optax_on_its_matrix(momentum):
    path = "encoder/layers/self_attention/out/kernel"
    ours = optimizers.Adafactor(schedule=schedules.Constant(peak=0.1), factor_from=8, momentum=momentum)
    theirs = optax.adafactor(0.1, min_dim_size_to_factor=8, momentum=momentum)
    shapes = {path: Leaf((4, 8, 16), ("heads", "head_dim", "embed"))}
    params = draw(shapes, 0)
    moved, state = follow(optimizers.make(ours, shapes, steps=20), params, shapes)
    assert {leaf.shape for leaf in jax.tree.leaves(state)} - {(4, 8, 16)} == {(), (32,), (16,)}

    flat, other = params[path].reshape(32, 16), theirs.init(params[path].reshape(32, 16))
    for step in range(3):
        grad = draw(shapes, 100 + step)[path].reshape(32, 16)
        updates, other = theirs.update(grad, other, flat)
        flat = optax.apply_updates(flat, updates)
    np.testing.assert_allclose(moved[path].reshape(32, 16), flat, rtol=1e-5, atol=1e-6)


def test_muon_on_one_layer_is_optax_on_its_matrix():
    path = "encoder/layers/self_attention/query/kernel"
    shapes = {path: Leaf((16, 4, 8), ("embed", "heads", "head_dim"))}
    params = draw(shapes, 0)
    ours = optimizers.Muon(schedule=schedules.Constant(peak=0.1), clip=None)
    moved, _ = follow(optimizers.make(ours, shapes, steps=20), params, shapes)
    theirs = contrib.muon(0.1, consistent_rms=0.2)
    flat, state = params[path].reshape(16, 32), theirs.init(params[path].reshape(16, 32))
    for step in range(3):
        grads = draw(shapes, 100 + step)[path].reshape(16, 32)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = theirs.update(grads, state, flat)
        flat = optax.apply_updates(flat, updates)
    np.testing.assert_allclose(moved[path].reshape(16, 32), flat, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimizer", ALL, ids=names)
def test_a_stack_moves_as_its_layers_apart(optimizer):
    optimizer = dataclasses.replace(optimizer, clip=None)  # the norm is the one thing all layers share
    stacked = {path: leaf for path, leaf in SHAPES.items() if leaf.axes[0] == "layers"}
    single = {path: Leaf(leaf.shape[1:], leaf.axes[1:]) for path, leaf in stacked.items()}
    assert all(leaf.axes[0] != "layers" for leaf in single.values())
    params = draw(stacked, 0)
    moved, _ = follow(optimizers.make(optimizer, stacked, steps=20), params, stacked)
    one = jax.jit(optimizers.make(optimizer, single, steps=20).update)
    for layer in range(LAYERS):
        mine = {path: value[layer] for path, value in params.items()}
        state = optimizers.make(optimizer, single, steps=20).init(mine)
        for step in range(3):
            grads = {path: value[layer] for path, value in draw(stacked, 100 + step).items()}
            updates, state = one(grads, state, mine, step=jnp.asarray(step, jnp.int32))
            mine = optax.apply_updates(mine, updates)
        assert_close({path: value[layer] for path, value in moved.items()}, mine, rtol=1e-4, atol=1e-5)


def test_stock_adafactor_mixes_the_layers_of_a_stack():
    path = "encoder/layers/mlp/wi/kernel"
    params, grads = draw(SHAPES, 0)[path], draw(SHAPES, 100)[path]
    stock = optax.adafactor(0.1, min_dim_size_to_factor=8)
    whole, _ = stock.update(grads, stock.init(params), params)
    apart = [stock.update(g, stock.init(p), p)[0] for g, p in zip(grads, params)]
    assert not np.allclose(whole, jnp.stack(apart), rtol=0.1)


def test_clip_is_over_what_trains():
    optimizer = optimizers.AdamW(schedule=schedules.Constant(peak=1.0), clip=0.5)
    shapes = {path: SHAPES[path] for path in list(SHAPES)[:2]}
    params, grads = draw(shapes, 0), {path: jnp.full(leaf.shape, 3.0) for path, leaf in shapes.items()}
    transformation = optimizers.make(optimizer, shapes, steps=5)
    _, state = transformation.update(grads, transformation.init(params), params, step=jnp.zeros((), jnp.int32))
    mean = next(leaf for leaf in jax.tree.leaves(state, is_leaf=lambda x: hasattr(x, "mu")) if hasattr(leaf, "mu")).mu
    assert optax.global_norm(mean) == pytest.approx(0.1 * 0.5, rel=1e-5)


def test_decay_spares_norms_biases_and_positions():
    optimizer = optimizers.AdamW(schedule=schedules.Constant(peak=0.5), decay=0.1)
    params = draw(SHAPES, 0)
    transformation = optimizers.make(optimizer, SHAPES, steps=5)
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = transformation.update(zero, transformation.init(params), params, step=jnp.zeros((), jnp.int32))
    decayed = {path for path, update in updates.items() if np.any(np.asarray(update))}
    assert decayed == {path for path in SHAPES if path.endswith("kernel")} | {"token_embedder/embedding"}
    for path in decayed:
        np.testing.assert_allclose(updates[path], -0.05 * params[path], rtol=1e-5)
    assert not optimizer.decays("decoder/final_norm/scale") and not optimizer.decays(
        "encoder/position_embedder/embedding"
    )
    assert optimizers.AdamW(schedule=RATE, decay=0.1, no_decay=()).decays("decoder/final_norm/scale")


def test_the_rate_is_that_of_the_step_given():
    optimizer = optimizers.AdamW(schedule=schedules.Cosine(peak=1e-2))
    shapes = {path: SHAPES[path] for path in list(SHAPES)[:1]}
    params, grads = draw(shapes, 0), draw(shapes, 1)
    transformation = optimizers.make(optimizer, shapes, steps=10, offset=10)
    assert optimizer.rate(10, offset=10) == schedules.Cosine(peak=1e-2, steps=20, offset=10)
    state = transformation.init(params)
    for step in (0, 5, 9):
        updates, _ = transformation.update(grads, state, params, step=jnp.asarray(step, jnp.int32))
        rate = schedules.Cosine(peak=1e-2, steps=20)(10 + step)
        np.testing.assert_allclose(np.abs(updates["token_embedder/embedding"]), rate, rtol=1e-3)
    with pytest.raises(TypeError, match="step"):
        transformation.update(grads, state, params)


@pytest.mark.parametrize("optimizer", ALL, ids=names)
def test_moments_lie_as_their_parameters(optimizer):
    mesh = jax.make_mesh((2, 4), ("fsdp", "tensor"), axis_types=(AxisType.Auto,) * 2)
    rules = {"embed": "fsdp", "heads": "tensor", "mlp": "tensor", "vocab": "tensor"}
    lies = {
        path: NamedSharding(mesh, PartitionSpec(*(rules.get(axis) for axis in leaf.axes)))
        for path, leaf in SHAPES.items()
    }
    plain, transformation = draw(SHAPES, 0), optimizers.make(optimizer, SHAPES, steps=20)
    params = {path: jax.device_put(value, lies[path]) for path, value in plain.items()}
    assert any(not value.is_fully_replicated for value in params.values())
    shardings = optimizers.state_shardings(jax.eval_shape(transformation.init, params), lies, SHAPES)
    state = jax.jit(transformation.init, out_shardings=shardings)(params)
    step = jax.jit(
        lambda grads, state, params: transformation.update(grads, state, params, step=jnp.asarray(3, jnp.int32)),
        out_shardings=(lies, shardings),
    )
    grads = draw(SHAPES, 1)
    updates, state = step({path: jax.device_put(value, lies[path]) for path, value in grads.items()}, state, params)
    for keys, leaf in jax.tree_util.tree_leaves_with_path(state):
        path = next((str(key.key) for key in keys if getattr(key, "key", None) in SHAPES), None)
        if path and leaf.shape == SHAPES[path].shape:
            assert leaf.sharding == lies[path]
        elif path and path.endswith("query/kernel"):
            assert leaf.sharding.spec == PartitionSpec(None, "fsdp" if leaf.shape[-1] == 16 else "tensor")
    alone, _ = transformation.update(grads, transformation.init(plain), plain, step=jnp.asarray(3, jnp.int32))
    assert_close(jax.device_get(updates), jax.device_get(alone), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("optimizer", ALL, ids=names)
def test_state_survives_orbax(optimizer, tmp_path):
    params = draw(SHAPES, 0)
    _, state = follow(optimizers.make(optimizer, SHAPES, steps=20), params, SHAPES, steps=1)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        back = checkpointer.restore(tmp_path / "state", jax.tree.map(ocp.utils.to_shape_dtype_struct, state))
    assert jax.tree.structure(back) == jax.tree.structure(state)
    for ours, theirs in zip(jax.tree.leaves(back), jax.tree.leaves(state)):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optimizers.AdamW(schedule=RATE, clip=0.0), "AdamW has clip 0.0"),
        (lambda: optimizers.AdamW(schedule=RATE, decay=-0.1), "decay -0.1"),
        (lambda: optimizers.AdamW(schedule=RATE, b2=1.0), "b2 1.0"),
        (lambda: optimizers.AdamW(schedule=RATE, no_decay=("/encoder",)), "begins with '/'"),
        (lambda: optimizers.Muon(schedule=RATE, matrices=("(",)), "Muon.matrices"),
        (lambda: optimizers.Muon(schedule=RATE, iterations=0), "0 iterations"),
        (lambda: optimizers.make(ALL[0], {}, steps=1), "AdamW has nothing to move: every parameter is frozen"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()

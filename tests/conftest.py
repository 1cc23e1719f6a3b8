"""Eight CPU devices, strict promotion, a compilation cache kept between runs; warnings are errors (pyproject.toml)."""

import os
import pathlib

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402  the settings above must come first

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", "/tmp/baton_jax_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)

ROOT = pathlib.Path(__file__).parent.parent
DATA = pathlib.Path(os.environ.get("BATON_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def real_text() -> pathlib.Path:
    """The folder of real pretraining text, one gzipped file a language."""
    if not (DATA / "pretrain").is_dir():
        pytest.skip(f"no real text at {DATA / 'pretrain'}: set BATON_DATA to the folder that holds pretrain/")
    return DATA / "pretrain"


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A token store of made-up text in bytes: parts `aa` and `bb`, documents of 3 to 40 words."""
    import random

    from tasks import sources, tokenize

    folder, draw = tmp_path_factory.mktemp("store"), random.Random(0)
    parts = {}
    for name, letters in (("aa", "abcde"), ("bb", "vwxyz")):
        words = ["".join(draw.choices(letters, k=draw.randint(2, 6))) for _ in range(50)]
        lines = [" ".join(draw.choices(words, k=draw.randint(3, 40))) for _ in range(400)]
        (folder / f"{name}.txt").write_text("\n".join(lines))
        parts[name] = sources.Lines(files=str(folder / f"{name}.txt"))
    tokenize.build(parts, "bytes", folder / "store", processes=1, validation=0.05)
    return str(folder / "store")


@pytest.fixture(scope="session")
def tiny(store: str):
    """A function of (bindings, name of a shipped recipe) to the recipe, shrunk, on the made-up store."""
    from recipes import config

    def load(*overrides: str, name: str = "mlm_then_seq2seq"):
        given = [f"STORE='{store}'", "VOCABULARY=384", *overrides]
        return config.load(name, given, overlays=["gin/tiny.gin"])

    return load

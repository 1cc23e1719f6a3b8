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

"""Importing TensorFlow without what its libraries write to stderr before any setting of theirs is read."""

import contextlib
import importlib
import os
from collections.abc import Iterator


def load(module: str) -> None:
    """Imports a module that imports TensorFlow; its C++ start-up messages go nowhere, its exceptions are raised."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with silence():
        importlib.import_module(module)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Inside, what is written to stderr goes nowhere; exceptions are raised."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)

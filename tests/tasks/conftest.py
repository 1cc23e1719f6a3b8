"""A made-up vocabulary, random documents and a small token store."""

import numpy as np
import pytest

from tasks import specials

SIZE = 1000


@pytest.fixture(scope="module")
def registries():
    """Leaves SeqIO's registries as they were before the file."""
    import seqio

    both = (seqio.TaskRegistry, seqio.MixtureRegistry)
    before = [set(registry.names()) for registry in both]
    yield
    for registry, names in zip(both, before):
        for name in set(registry.names()) - names:
            registry.remove(name)


@pytest.fixture(scope="session")
def special() -> specials.Specials:
    """Ids 10 .. 899 stand for text."""
    return specials.Specials(
        size=SIZE, mask=3, doc=4, modes={"R": 5, "S": 6, "X": 7}, sentinels=tuple(range(SIZE - 1, SIZE - 101, -1))
    )


@pytest.fixture(scope="session")
def document():
    """Returns a function from (generator, length with EOS) to a document."""

    def make(rng: np.random.Generator, length: int) -> np.ndarray:
        return np.append(rng.integers(10, 900, length - 1), 1).astype(np.int32)

    return make


@pytest.fixture(scope="session")
def window(document):
    """Returns a function from (generator, length, mean document length) to a window's pieces."""

    def make(rng: np.random.Generator, length: int, mean: float) -> list[np.ndarray]:
        found, total = [], 0
        while total < length:
            found.append(document(rng, 2 + int(rng.exponential(mean))))
            total += len(found[-1])
        flat = np.concatenate(found)[:length]
        return np.split(flat, np.flatnonzero(flat[:-1] == 1) + 1)

    return make

"""Which part and which of its windows each row of a run is: index arithmetic, no state.

Row r of a run (row `step * batch + i` of all) is a pure function of r and the seed, so that a run can start at any
step at once, on any number of processes, and a changed batch size goes on in the same order.
"""

import dataclasses
import functools

import numpy as np

# Rates are met exactly over this many rows, and are rounded to multiples of its inverse.
PERIOD = 2**16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turns:
    """A fixed order in which parts take turns by their rates, as evenly as can be.

    Attributes:
        rates: how often each part is drawn, in any unit, all positive; rates under 1/65536 of the sum count as that.
    """

    rates: tuple[float, ...]

    @functools.cached_property
    def quotas(self) -> np.ndarray:
        """[parts] int64, rows of each part in a period; their sum is PERIOD."""
        share = np.array(self.rates, np.float64) / np.sum(self.rates) * PERIOD
        quotas = np.maximum(1, np.floor(share).astype(np.int64))
        rest = PERIOD - int(quotas.sum())
        order = np.argsort(quotas - share, kind="stable")
        if rest > 0:
            quotas[order[:rest]] += 1
        else:
            quotas[np.argmax(quotas)] += rest
        return quotas

    @functools.cached_property
    def _order(self) -> tuple[np.ndarray, np.ndarray]:
        parts = np.repeat(np.arange(len(self.quotas)), self.quotas)
        number = np.arange(PERIOD) - np.repeat(np.cumsum(self.quotas) - self.quotas, self.quotas)
        order = np.argsort((number + 0.5) / self.quotas[parts], kind="stable")
        return parts[order], number[order]

    def at(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns each row's part, and how many rows of that part came before it (both int64)."""
        parts, numbers = self._order
        period, place = np.divmod(rows, PERIOD)
        part = parts[place]
        return part, period * self.quotas[part] + numbers[place]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Windows:
    """Every window of every part once an epoch, in an order of its own each epoch.

    A part's tokens are a ring. Each epoch cuts it into floor(tokens / window) windows from a random place on, so that
    cuts fall elsewhere every time and less than one window is left out.

    Attributes:
        tokens: length of each part.
        rates: of each part.
        window: tokens in a window.
        seed: of orders and cuts.
    """

    tokens: tuple[int, ...]
    rates: tuple[float, ...]
    window: int
    seed: int

    @functools.cached_property
    def _turns(self) -> Turns:
        return Turns(rates=self.rates)

    def at(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns each row's part, and where its window starts in the part's ring (both int64)."""
        part, number = self._turns.at(np.asarray(rows, np.int64))
        size = np.array(self.tokens, np.int64)[part]
        index, key = shuffled(part, number, np.maximum(1, size // self.window), self.seed)
        shift = (scramble(~key) % size.astype(np.uint64)).astype(np.int64)
        return part, (shift + index * self.window) % size


def shuffled(part: np.ndarray, number: np.ndarray, count: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns which of its part's `count` elements each row is, every one once an epoch in an order of its own.

    Args:
        part: [n] int64.
        number: [n] int64, how many rows of that part came before.
        count: [n] int64, elements of that part.
        seed: of the orders.

    Returns:
        [n] int64 index, and [n] uint64 random numbers, one for each part and epoch.
    """
    epoch, index = np.divmod(number, count)
    key = scramble(np.full(part.shape, seed % 2**64, np.uint64))
    key = scramble(scramble(key ^ part.astype(np.uint64)) ^ epoch.astype(np.uint64))
    return permute(index, count, key), key


def permute(index: np.ndarray, size: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Returns where a pseudo-random permutation of range(size) takes each index.

    A Feistel network on a grid of about `size` cells, walked on until it leads back into the range.

    Args:
        index: [n] int64 in [0, size).
        size: [n] int64.
        key: [n] uint64, chooses the permutation.
    """
    wide = np.ceil(np.sqrt(size)).astype(np.int64)
    high = -(-size // wide)
    result, todo = index.copy(), np.arange(len(index))
    while len(todo):
        a, b = np.divmod(result[todo], high[todo])
        for turn in range(0, 8, 2):
            salt = scramble(key[todo] + np.uint64(turn))
            a = (a + _offset(salt, b)) % wide[todo]
            b = (b + _offset(salt + np.uint64(1), a)) % high[todo]
        result[todo] = a * high[todo] + b
        todo = todo[result[todo] >= size[todo]]
    return result


def scramble(values: np.ndarray) -> np.ndarray:
    """Returns well-mixed uint64 from uint64, one to one (SplitMix64, Steele et al. 2014, 10.1145/2660193.2660195)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _offset(salt: np.ndarray, value: np.ndarray) -> np.ndarray:
    # Shifted, so that the sum with a coordinate stays within int64.
    return (scramble(salt ^ value.astype(np.uint64)) >> np.uint64(2)).astype(np.int64)


def generators(seed: int, rows: np.ndarray) -> list[np.random.Generator]:
    """Returns one generator a row, a pure function of the seed and the row's number."""
    base = (seed % 2**64) << 64
    return [np.random.Generator(np.random.PCG64(base + row)) for row in rows.tolist()]

"""Rates of several blends put together, as recipes write them: `@rates.joined()`."""

from collections.abc import Sequence

Rates = tuple[tuple[str, float], ...]


def joined(blends: Sequence[Rates], shares: Sequence[float]) -> Rates:
    """Returns the rates of a blend in which each of `blends` has its share of the rows; the rates add up to 1.

    Args:
        blends: (part, rate) for every part of each blend, in any unit.
        shares: of the blends, in any unit.

    Raises:
        ValueError: not as many shares as blends, or a share or a rate that is not positive.
    """
    if len(blends) != len(shares) or not blends:
        raise ValueError(f"joined: {len(blends)} blends have {len(shares)} shares: give each blend one")
    found: dict[str, float] = {}
    for rates, share in zip(blends, shares):
        if not share > 0 or not rates or not all(rate > 0 for _, rate in rates):
            raise ValueError(f"joined: the share {share} and the rates {rates} are not all positive: leave such out")
        total = sum(rate for _, rate in rates)
        for part, rate in rates:
            found[part] = found.get(part, 0.0) + share / sum(shares) * rate / total
    return tuple(found.items())

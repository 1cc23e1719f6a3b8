"""Mixtures of objectives, such as UL2's mixture of denoisers."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tasks import batches, objective, pieces, specials


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixture(objective.Objective):
    """Each row is trained with one of several objectives, drawn at random (UL2, Tay et al. 2022, arXiv:2205.05131).

    All members share a row's lengths; a row consumes what fits into all of them. Arrays that only some members have
    are 0 in the rows of the others.

    Attributes:
        members: objectives for one kind of model.
        rates: how often each is drawn, in any unit; one for each member.
    """

    members: tuple[objective.Objective, ...]
    rates: tuple[float, ...]

    def __post_init__(self):
        """Refuses members that do not go together."""
        kinds = sorted({member.kind for member in self.members})
        objective.require(self, len(kinds) == 1, f"members train the kinds {kinds}, one kind is needed")
        pair = len(self.members), len(self.rates)
        objective.require(self, pair[0] == pair[1], "{} members have {} rates".format(*pair))
        objective.require(self, min(self.rates) >= 0 and sum(self.rates) > 0, f"rates={self.rates} are not rates")

    @property
    def kind(self) -> str:
        """Kind of model it trains."""
        return self.members[0].kind

    def window(self, inputs: int, targets: int) -> int:
        """Returns how many raw tokens a row consumes: the most that fits all members."""
        return min(member.window(inputs, targets) for member in self.members)

    def spec(self, batch: int, inputs: int, targets: int) -> batches.Spec:
        """Returns name to (shape, dtype).

        Raises:
            ValueError: two members shape one array differently.
        """
        spec: batches.Spec = {}
        for member in self.members:
            for name, value in member.spec(batch, inputs, targets).items():
                if spec.setdefault(name, value) != value:
                    raise ValueError(
                        f"Mixture: {name} has the shape {spec[name][0]} in one member and {value[0]} in "
                        f"{type(member).__name__}: give the members equal rates of targets"
                    )
        return spec

    def needs(self) -> tuple[str, ...]:
        """Returns the special ids it writes."""
        return tuple(dict.fromkeys(name for member in self.members for name in member.needs()))

    def problems(self, *, inputs: int, targets: int, specials: specials.Specials | None = None) -> list[str]:
        """Returns what keeps it from these lengths and this vocabulary, one line each."""
        found = super().problems(inputs=inputs, targets=targets, specials=specials)
        try:
            self.spec(1, inputs, targets)
        except ValueError as error:
            found.append(str(error))
        return found

    def choose(self, rngs: Sequence[np.random.Generator]) -> np.ndarray:
        """Returns which member each row gets ([R] int64); it is the first number of the row's generator."""
        edges = np.cumsum(self.rates) / np.sum(self.rates)
        return np.searchsorted(edges[:-1], np.array([rng.random() for rng in rngs]), side="right")

    def rows(
        self,
        found: pieces.Pieces,
        rngs: Sequence[np.random.Generator],
        *,
        inputs: int,
        targets: int,
        specials: specials.Specials,
    ) -> batches.Batch:
        """Returns the batch of these rows."""
        spec = self.spec(found.count, inputs, targets)
        batch = {name: np.zeros(shape, dtype) for name, (shape, dtype) in spec.items()}
        choice = self.choose(rngs)
        for number, member in enumerate(self.members):
            rows = np.flatnonzero(choice == number)
            if len(rows):
                own = [rngs[row] for row in rows.tolist()]
                part = member.rows(found.take(rows), own, inputs=inputs, targets=targets, specials=specials)
                for name, value in part.items():
                    batch[name][rows] = value
        return batch

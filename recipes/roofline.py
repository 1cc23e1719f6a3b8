"""How long a step must take at least, from what it does and what the chips can do.

The three sides are taken as perfectly overlapped and every rate as its published peak, so the figure is a bound and not
a forecast: measured steps are slower. Nothing is estimated from what couldn't be counted; that is said beside it.
"""

import dataclasses

from recipes import chips, counts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """Of one step.

    Attributes:
      sides: seconds by what takes them: compute, hbm, ici, dcn.
      mfu: model FLOPs over peak FLOPs, if the step took just the longest of them.
    """

    sides: dict[str, float]
    mfu: float

    @property
    def bound(self) -> str:
        """What takes longest."""
        return max(self.sides, key=lambda name: self.sides[name])

    @property
    def seconds(self) -> float:
        """The longest side."""
        return self.sides[self.bound]


def estimate(found: counts.Counts, chip: chips.Chip, model_flops: float, devices: int) -> Estimate:
    """The bound of a step whose `model_flops` are over all `devices`, from one device's counts."""
    # A program can't do less than the model asks for: the products that a kernel hides are in model_flops.
    flops = max(found.flops, model_flops / devices) if found.unknown else found.flops
    sides = {
        "compute": flops / chip.flops,
        "hbm": found.bytes / chip.hbm,
        "ici": found.ici / chip.ici,
        "dcn": found.dcn / chip.dcn,
    }
    return Estimate(sides=sides, mfu=model_flops / devices / chip.flops / max(sides.values()))

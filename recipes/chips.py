"""What the chips of a TPU slice have: rates and memory, a JAX device each, for plans of slices that aren't at hand.

Sources: cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e,tpu7x} for FLOP/s (recipes/peaks.py), HBM and its bandwidth; "How to
Scale Your Model" (jax-ml.github.io/scaling-book/tpus) for links and data-centre network. Memory and bandwidths are
recalled, unverified (hi); those marked (mid) less surely. The 15.75 GiB of a v5e were found in its compiler's message.
"""

import dataclasses

from recipes import peaks

GIB = 1 << 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """One JAX device of a slice.

    Attributes:
      kind: beginning of `jax.Device.device_kind`.
      hbm_gib: memory that a program may use, where no compiler says otherwise.
      hbm: bytes a second between it and its memory.
      ici: bytes a second that it can send over all its links to its neighbours at once.
      dcn: bytes a second that it can send to another slice.
      per_chip: devices a chip has.
    """

    kind: str
    hbm_gib: float
    hbm: float
    ici: float
    dcn: float
    per_chip: int = 1

    @property
    def flops(self) -> float:
        """Peak bfloat16 FLOP/s."""
        peak = peaks.flops(self.kind)
        assert peak is not None, self.kind
        return peak


CHIPS = {
    "v4": Chip(kind="TPU v4", hbm_gib=32, hbm=1228e9, ici=6 * 45e9, dcn=6.25e9),
    "v5e": Chip(kind="TPU v5 lite", hbm_gib=15.75, hbm=819e9, ici=4 * 45e9, dcn=3.125e9),
    "v5p": Chip(kind="TPU v5", hbm_gib=95, hbm=2765e9, ici=6 * 90e9, dcn=6.25e9),
    "v6e": Chip(kind="TPU v6", hbm_gib=32, hbm=1640e9, ici=4 * 90e9, dcn=12.5e9),
    # A 7x chip is two devices, which share its 192 GiB and its links (links and network: mid).
    "tpu7x": Chip(kind="TPU7x", hbm_gib=96, hbm=3690e9, ici=3 * 100e9, dcn=6.25e9, per_chip=2),
}
"""By the name that a topology begins with."""

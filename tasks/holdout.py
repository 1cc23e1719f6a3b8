"""Which documents are held out of training: decided by each document's own text, so that doubles stay on one side."""

import dataclasses
import hashlib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Holdout:
    """A share of the documents, chosen by a hash of their text.

    Attributes:
        share: of all documents, in [0, 1).
        split: what the held-out documents are called.
    """

    share: float = 0.0
    split: str = "validation"

    def __post_init__(self):
        """Refuses shares that hold out everything."""
        if not 0 <= self.share < 1:
            raise ValueError(f"the share of documents held out is {self.share}: give one from 0 to below 1")
        if self.split == "train":
            raise ValueError("held-out documents cannot be called 'train': name another split")

    def holds(self, text: str) -> bool:
        """Returns whether this document is held out."""
        if not self.share:
            return False
        number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
        return number < self.share * 2**64

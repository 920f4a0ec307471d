"""What makes a server safe, given by whoever starts it; without anything it is open, in the clear."""

from dataclasses import dataclass, field

from steelyard.serve.secure.access import Access

__all__ = ["Security"]


@dataclass(frozen=True, slots=True)
class Security:
    """Who may ask."""

    access: Access = field(default_factory=lambda: Access(None))

"""The links that agents open to us: who is let in, what they may say, and where it goes."""

from solar.control.links.links import Links

__all__ = ["Links"]

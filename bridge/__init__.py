"""The Aventa bridge: an Aventa exchange's call events become Cention errands, durably, in order, effectively once."""

__version__ = "0.1.0"

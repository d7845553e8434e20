"""gandb: a versioned SQL store for generated inorganic materials."""

__all__ = ["__version__"]

__version__ = "0.1.0"

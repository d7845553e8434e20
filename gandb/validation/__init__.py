"""Checks of generated materials: pure functions of arrays, each with a name, version and reason."""

"""Errors, settings, units, content ids and records: what every other package may use."""

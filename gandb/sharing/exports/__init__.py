"""Structures for other programs."""

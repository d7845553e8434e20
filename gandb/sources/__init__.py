"""Readers of what other databases publish: one adapter each, and what they share."""

from gandb.sources.aflow import AFLOW
from gandb.sources.base import Source
from gandb.sources.mp import MP
from gandb.sources.oqmd import OQMD
from gandb.sources.sample import sample_files

__all__ = ["SOURCES", "Source", "sample_files"]

SOURCES: dict[str, Source] = {source.name: source for source in (OQMD, MP, AFLOW)}
"""Every source by name."""

"""A real sample of each database; README.md beside it says whose and under which terms."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

__all__ = ["sample_crystals", "sample_files"]

_FILES = {
    "oqmd": (
        "oqmd.Formation_Enthalpy.csv.gz",
        "oqmd.Bandgap.csv.gz",
        "oqmd.Volume_per_atom.csv.gz",
    ),
    "mp": ("mp.formation_energy_per_atom.csv.gz", "mp.band_gap.csv.gz"),
    "aflow": ("aflow.energy_atom.csv.gz", "aflow.Egap.csv.gz"),
}


_CRYSTALS = ("oqmd", "oqmd.crystals.extxyz.gz")


def sample_crystals() -> tuple[str, Path]:
    """Return the source and the file of the sample with structures."""
    source, name = _CRYSTALS
    return source, Path(str(resources.files(__name__) / name))


def sample_files() -> dict[str, list[Path]]:
    """Return the files of the sample by source, ready for `gandb.sources.tables.read_tables`."""
    folder = resources.files(__name__)
    return {
        source: [Path(str(folder / name)) for name in names] for source, names in _FILES.items()
    }

"""Every format of records that can be read, and which one a file is in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from gandb.core.crystals import Crystal
from gandb.core.errors import NotFoundError
from gandb.sources.aflow_records import (
    AFLOW_FOLDER,
    AFLOW_HULL,
    AFLOW_INDEX,
    AFLOWLIB_JSON,
    AFLOWLIB_OUT,
    AFLUX,
)
from gandb.sources.ase_database import ASE_DATABASE
from gandb.sources.cif import CIF, decode_cif
from gandb.sources.extxyz import EXTXYZ
from gandb.sources.mp_documents import COMPUTED_ENTRIES, MP_LEGACY, MP_SUMMARY
from gandb.sources.optimade import OPTIMADE
from gandb.sources.oqmd_dump import OQMD_DUMP
from gandb.sources.oqmd_rest import OQMD_REST
from gandb.sources.poscar import POSCAR, decode_poscar
from gandb.sources.pymatgen_json import PYMATGEN_JSON
from gandb.sources.records import Encoded, Format, Sites
from gandb.sources.structure_tables import (
    JARVIS_LEADERBOARD,
    JARVIS_TARGETS,
    STRUCTURE_TABLE,
)

HEAD_BYTES = 65_536
"""How much of a member is looked at to tell its format."""

FORMATS: Mapping[str, Format] = {
    form.name: form
    for form in (
        CIF,
        POSCAR,
        EXTXYZ,
        ASE_DATABASE,
        OQMD_DUMP,
        OQMD_REST,
        OPTIMADE,
        MP_SUMMARY,
        COMPUTED_ENTRIES,
        MP_LEGACY,
        AFLUX,
        AFLOWLIB_JSON,
        AFLOWLIB_OUT,
        AFLOW_INDEX,
        AFLOW_HULL,
        AFLOW_FOLDER,
        PYMATGEN_JSON,
        JARVIS_LEADERBOARD,
        JARVIS_TARGETS,
        STRUCTURE_TABLE,
    )
}
"""Formats by name; where several fit a file, the first is taken."""

_STRUCTURE = re.compile(
    rb'[\s\[]*\{\s*"@module":\s*"pymatgen\.core\.structure",\s*"@class":\s*"Structure"'
)

DECODERS: Mapping[str, Callable[[str], Sites]] = {"cif": decode_cif, "poscar": decode_poscar}
"""How texts of `gandb.sources.records.Encoded` structures are read."""


def format_named(name: str) -> Format:
    """Return a format.

    Raises:
        NotFoundError: naming those that exist.
    """
    if name not in FORMATS:
        raise NotFoundError.naming("format", name, FORMATS)
    return FORMATS[name]


def format_of(name: str, head: bytes) -> Format | None:
    """Return the format that fits a name and the first bytes, None if there is none."""
    if _STRUCTURE.match(head):  # whatever words of other formats its properties hold
        return PYMATGEN_JSON
    for form in FORMATS.values():
        if form.fits(name.lower(), head):
            return form
    return None


def crystal_of(structure: Sites | Encoded) -> Crystal:
    """Decode a record's structure and check it.

    Raises:
        InputError: it is no crystal structure; says why.
    """
    if isinstance(structure, Encoded):
        structure = DECODERS[structure.format](structure.text)
    return structure.crystal()

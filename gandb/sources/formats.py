"""Every format of records that can be read, and which one a file is in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from gandb.core.errors import InputError, NotFoundError
from gandb.sources.aflow_records import AFLOW_HULL, AFLOW_INDEX, AFLOWLIB_JSON, AFLOWLIB_OUT, AFLUX
from gandb.sources.ase_database import ASE_DATABASE
from gandb.sources.base import Reject
from gandb.sources.cif import CIF, decode_cif
from gandb.sources.extxyz import EXTXYZ
from gandb.sources.mp_documents import COMPUTED_ENTRIES, MP_LEGACY, MP_SUMMARY
from gandb.sources.optimade import OPTIMADE
from gandb.sources.oqmd_dump import OQMD_DUMP
from gandb.sources.oqmd_rest import OQMD_REST
from gandb.sources.poscar import POSCAR, decode_poscar
from gandb.sources.pymatgen_json import PYMATGEN_JSON
from gandb.sources.records import Format, Member, Record, Sites, reject
from gandb.sources.structure_tables import JARVIS_LEADERBOARD, STRUCTURE_TABLE

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
        PYMATGEN_JSON,
        JARVIS_LEADERBOARD,
        STRUCTURE_TABLE,
    )
}
"""Formats by name; where several fit a file, the first is taken."""

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
    for form in FORMATS.values():
        if form.fits(name.lower(), head):
            return form
    return None


def read_member(member: Member, form: Format | None = None) -> Iterator[Record | Reject]:
    """Read a member in a format, or in the one that fits; whatever fails is a reject."""
    try:
        with member.open() as handle:
            head = handle.read(HEAD_BYTES)
        if not head:
            yield reject(member, 0, "it is empty")
            return
        chosen = form or format_of(member.name, head)
        if chosen is None:
            shown = head[:200].decode(errors="replace")
            yield reject(
                member,
                0,
                f"no format fits its name and content; known: {', '.join(FORMATS)} (to insist on "
                "one: --format NAME)",
                shown,
            )
            return
        yield from chosen.read(member)
    except InputError as error:
        yield reject(member, 0, str(error))
    except OSError as error:
        yield reject(member, 0, f"cannot be read: {error}")
    except (ArithmeticError, EOFError, LookupError, TypeError, ValueError) as error:
        yield reject(member, 0, f"cannot be read on: {type(error).__name__}: {error}")

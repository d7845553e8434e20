"""CIF: files of any number of blocks, from any database or program.

This is also the road for exports of ICSD, COD, CSD and Pearson's Crystal Data, whose ids and
references are kept. Tags: https://www.iucr.org/resources/cif/dictionaries/cif_core.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

from gandb.core.errors import InputError
from gandb.sources.base import Reject
from gandb.sources.cif_blocks import Block, Piece, parse_blocks, split_again, split_blocks
from gandb.sources.cif_sites import decode_cif, has_atoms
from gandb.sources.cif_symmetry import NAME_TAGS, NUMBER_TAGS
from gandb.sources.own_records import KEY, restored
from gandb.sources.records import Encoded, Format, Member, Record, reject

__all__ = ["CIF", "decode_cif"]

MAX_TEXT = 1_000
"""Most characters kept of one value."""
MAX_LISTED = 200
"""Most references, and most authors of one."""

SMALL_BYTES = 2**20
"""Files up to this size are read at once; larger ones as a stream."""

_ID_TAGS = {
    "cod": ("_cod_database_code",),
    "icsd": ("_database_code_icsd",),
    "pcd": ("_database_code_pcd",),
    "csd": ("_database_code_csd",),
    "amcsd": ("_database_code_amcsd",),
    "pdf": ("_database_code_pdf",),
    "ccdc": ("_database_code_depnum_ccdc_archive",),
}
"""Kinds of ids and the tags that give them; the first kind that is there is a record's own id."""
_TEXT_TAGS = {
    "stated_formula": ("_chemical_formula_sum",),
    "stated_space_group": NAME_TAGS,
    "chemical_name": (
        "_chemical_name_common",
        "_chemical_name_systematic",
        "_pd_phase_name",
        "_chemical_name_mineral",
    ),
    "mineral": ("_chemical_name_mineral",),
    "structure_type": ("_chemical_name_structure_type",),
    "structural_formula": ("_chemical_formula_structural",),
}
_NUMBER_TAGS = {
    "stated_space_group_number": NUMBER_TAGS,
    "stated_formula_units": ("_cell_formula_units_z",),
    "temperature_k": ("_cell_measurement_temperature", "_diffrn_ambient_temperature"),
    "pressure_kpa": ("_cell_measurement_pressure", "_diffrn_ambient_pressure"),
    "r_factor": (
        "_refine_ls_r_factor_gt",
        "_refine_ls_r_factor_all",
        "_refine_ls_r_factor_obs",
        "_pd_proc_ls_prof_r_factor",
    ),
}
_LITERATURE = ("_citation_", "_journal_", "_publ_author_name")
_LITERATURE_TAGS = frozenset(
    (
        "_citation_id",
        "_publ_author_name",
        "_journal_name_full",
        "_journal_name_abbrev",
        "_journal_year",
        "_journal_paper_doi",
        "_journal_article_doi",
    )
)
"""At least one of these is in a block that cites anything."""
_ICSD_BLOCK = re.compile(r"(?:TTdata_)?(\d+)-ICSD|ICSD_(?:CollCode)?(\d+)", re.IGNORECASE)
_UNCERTAINTY = re.compile(r"\(\d*\)$")
_DATA_LINE = re.compile(
    rb"^[ \t]*(?:data_|loop_[ \t]*\r?$|_cell[_.]length)", re.MULTILINE | re.IGNORECASE
)


def _fits(name: str, head: bytes) -> bool:
    if PurePosixPath(name).suffix in (".cif", ".mcif", ".mmcif", ".cif2"):
        return True
    if PurePosixPath(name).suffix in (".txt", ".dat", ""):
        return (
            len(_DATA_LINE.findall(head)) > 1
            and re.search(rb"^[ \t]*data_", head, re.MULTILINE) is not None
        )
    return False


def _read(member: Member) -> Iterator[Record | Reject]:
    """Give a record for every block with atoms.

    Blocks without cell and atoms, such as those of authors in journals' files, are no records; what
    they say of references goes to the records after them.
    """
    found = _records(member)
    try:
        first = next(found, None)
        second = next(found, None)
        if first is None:
            yield reject(member, 1, "no block of it has atom sites")
            return
        yield _named(member, first, alone=second is None)
        if second is not None:
            yield _named(member, second, alone=False)
        for one in found:
            yield _named(member, one, alone=False)
    except (InputError, OSError) as error:
        yield reject(member, 1, str(error))


Found = tuple[int, str, Block, Block] | Reject

_CUT = (
    "it may be cut off: the file ends here without a line break, and no formula tells whether all "
    "atoms are there; if it is whole, end it with a line break"
)
_BARE = "a block without any values: is the file cut off?"


def _records(member: Member) -> Iterator[Found]:
    """Yield line, text, block and shared header of every block with atoms, or a reject."""
    header = Block("", {})
    begin = 1
    try:
        small = member.size is not None and member.size <= SMALL_BYTES
        with BytesIO(member.read(SMALL_BYTES)) if small else member.open() as handle:
            for piece in split_blocks(handle):
                begin = piece.line
                for one in _of_piece(member, piece):
                    if isinstance(one, Reject):
                        yield one
                        continue
                    _, text, block = one
                    if _may_be_cut(block, piece.data):
                        yield reject(member, one[0], _CUT if block.values else _BARE, text)
                    elif has_atoms(block):
                        yield (*one, header)
                    elif block.column("_cell_length_a"):
                        line = one[0]
                        yield reject(member, line, "it has a cell, but no atom sites", one[1])
                    else:
                        header = Block("", header.values | _shared(block))
    except (InputError, OSError) as error:
        yield reject(member, begin, str(error))


def _may_be_cut(block: Block, data: bytes) -> bool:
    """Whether a file may end within its atoms, or before the first, and nothing would tell."""
    if not block.values:
        return True
    last = next(reversed(block.values))
    return (
        last.startswith("_atom_site_")
        and not data.endswith((b"\n", b"\r"))
        and not data.rpartition(b"\n")[2].startswith(b"#")
        and block.text("_chemical_formula_sum") is None
    )


def _of_piece(
    member: Member, piece: Piece, *, again: bool = True
) -> Iterator[tuple[int, str, Block] | Reject]:
    """Parse one piece; if it cannot be read, whatever blocks may be hidden in it."""
    try:
        if piece.fault is not None:
            raise InputError(piece.fault)
        text = _decoded(piece.data)
        for block in parse_blocks(text):
            yield piece.line, text, block
    except InputError as error:
        parts = split_again(piece) if again and piece.fault is None else []
        if len(parts) > 1:
            for part in parts:
                yield from _of_piece(member, part, again=False)
            return
        shown = piece.data[:2_000].decode(errors="backslashreplace")
        match = re.match(r"line (\d+): (.*)", str(error), re.DOTALL)
        line, said = (int(match[1]), match[2]) if match else (1, str(error))
        yield reject(member, piece.line + line - 1, said, shown)


def _decoded(data: bytes) -> str:
    if b"\0" in data:
        raise InputError("no CIF: it is binary, or UTF-16; save it as UTF-8")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"line {line}: not UTF-8: byte 0x{data[error.start]:02x}; convert it, as by "
            "iconv -f latin1 -t utf-8"
        ) from None


def _named(member: Member, found: Found, *, alone: bool) -> Record | Reject:
    if isinstance(found, Reject):
        return found
    line, text, block, header = found
    ids = {
        kind: _clean_id(kind, said)
        for kind, tags in _ID_TAGS.items()
        if (said := block.text(*tags)) is not None
    }
    if (match := _ICSD_BLOCK.fullmatch(block.name)) is not None:
        ids.setdefault("icsd", match[1] or match[2])
    aliases = tuple(ids.items())
    stem = PurePosixPath(member.name).name.removesuffix(PurePosixPath(member.name).suffix)
    own = aliases[0][1] if aliases else stem if alone else f"{stem}#{block.name[:MAX_TEXT]}"
    extra = _extra(block)
    if references := _references(block) or _references(Block("", header.values)):
        extra["references"] = references
    record = Record(member.name, line, own, aliases, structure=Encoded("cif", text), extra=extra)
    try:
        return restored(record, block.text(f"_{KEY}"))
    except InputError as error:
        return reject(member, line, str(error), text)


def _clean_id(kind: str, said: str) -> str:
    """Leave out the words that some databases put before their numbers."""
    if kind in ("ccdc", "icsd", "amcsd", "cod", "pcd"):
        said = re.sub(
            r"^(?:CCDC|ICSD|AMCSD|COD|PCD)(?:/CSD)?\s*[:#-]?\s*", "", said, flags=re.IGNORECASE
        )
    return said[:MAX_TEXT]


# --- what else a block says --------------------------------------------------------------


def _extra(block: Block) -> dict[str, Any]:
    extra: dict[str, Any] = {"block": block.name[:MAX_TEXT]} if block.name else {}
    for name, tags in _TEXT_TAGS.items():
        if (said := _said(block, *tags)) is not None:
            extra[name] = said
    for name, tags in _NUMBER_TAGS.items():
        number = _number(block.text(*tags))
        if number is not None:
            extra[name] = int(number) if number.is_integer() and "stated" in name else number
    return extra


def _references(block: Block) -> list[dict[str, Any]]:
    """Return the literature of a block: its citations, else the journal it was published in."""
    if _LITERATURE_TAGS.isdisjoint(block.values):
        return []
    ids = block.texts("_citation_id")
    authors = list(
        zip(
            block.texts("_citation_author_citation_id"),
            block.texts("_citation_author_name"),
            strict=False,
        )
    )
    columns = {
        "journal": block.texts("_citation_journal_full", "_citation_journal_abbrev"),
        "year": block.texts("_citation_year"),
        "volume": block.texts("_citation_journal_volume"),
        "page": block.texts("_citation_page_first", "_citation_journal_id_astm"),
        "doi": block.texts("_citation_doi"),
    }
    found = []
    for at in range(min(len(ids), MAX_LISTED)):
        names = [name for who, name in authors if name and who == ids[at]]
        if not names and len(ids) == 1:
            names = [name for _, name in authors if name]
        cells = {k: values[at] if at < len(values) else None for k, values in columns.items()}
        found.append(_reference(names, cells))
    if not any(found):
        names = [name for name in block.texts("_publ_author_name") if name]
        cells = {
            "journal": _said(block, "_journal_name_full", "_journal_name_abbrev"),
            "year": _said(block, "_journal_year"),
            "volume": _said(block, "_journal_volume"),
            "page": _said(block, "_journal_page_first"),
            "doi": _said(block, "_journal_paper_doi", "_journal_article_doi"),
        }
        found = [_reference(names, cells)]
    return [reference for reference in found if reference]


def _reference(authors: list[str], cells: dict[str, str | None]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if authors:
        found["authors"] = [" ".join(name.split())[:MAX_TEXT] for name in authors[:MAX_LISTED]]
    for name, said in cells.items():
        if said:
            year = name == "year" and said.isdigit() and len(said) == 4
            found[name] = int(said) if year else " ".join(said.split())[:MAX_TEXT]
    return found


def _shared(block: Block) -> dict[str, list[str]]:
    return {
        tag: values[:MAX_LISTED]
        for tag, values in block.values.items()
        if tag.startswith(_LITERATURE)
    }


def _said(block: Block, *tags: str) -> str | None:
    said = block.text(*tags)
    return None if said is None else " ".join(said.split())[:MAX_TEXT]


def _number(said: str | None) -> float | None:
    try:
        number = float(_UNCERTAINTY.sub("", said or ""))
    except ValueError:
        return None
    return number if math.isfinite(number) and abs(number) < 1e12 else None


CIF = Format("cif", "CIF, one or many blocks", _fits, _read)

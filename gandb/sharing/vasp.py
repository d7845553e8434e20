"""Structures handed to VASP: a folder of inputs for each, with a note of where it came from.

Inputs are those of pymatgen's sets (`MPRelaxSet`, `MPStaticSet`, `MPScanRelaxSet` ...), so that
what is calculated compares with the Materials Project (doi:10.1016/j.commatsci.2012.10.028).
Pseudopotentials are licensed and no part of pymatgen: POTCAR is written where pymatgen knows a
folder with them (PMG_VASP_PSP_DIR), else POTCAR.spec, which names them.

Each folder has a ``gandb.json``, by which `gandb.sharing.vasp_results` knows the results again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from gandb.core.crystals import Crystal
from gandb.core.errors import InputError, MissingExtraError, NotFoundError, StoreError, UsageError
from gandb.schema import tables
from gandb.store import Store
from gandb.tasks.structures import crystals_of

NOTE = "gandb.json"
"""Name of the note in each folder."""
FORMAT = 1
_SETS = re.compile(r"(MP|MIT|MatPES|MVL)\w*(Relax|Static|Scan)\w*Set")
_KEEP_OUT = ("Slab", "GB", "NEB", "MD")


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        folders: how many.
        potcar: whether POTCAR was written, and not POTCAR.spec.
        left_out: why structures were left out, and how many.
    """

    folders: int
    potcar: bool
    left_out: Mapping[str, int] = field(default_factory=dict)


def input_sets() -> list[str]:
    """Return the names of pymatgen's input sets for a single structure.

    Raises:
        MissingExtraError: pymatgen is not installed.
    """
    return sorted(
        name
        for name in vars(_sets())
        if _SETS.fullmatch(name) and not any(word in name for word in _KEEP_OUT)
    )


def write_inputs(
    store: Store,
    ids: Sequence[UUID],
    folder: Path,
    input_set: str,
    *,
    relaxation: UUID | None = None,
    incar: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Written:
    """Write a folder of inputs for each structure, all of them or none.

    Args:
        store: where the structures are.
        ids: structures.
        folder: a new one.
        input_set: name of `input_sets`.
        relaxation: recipe; write what it made of the structures, without those it did not relax.
        incar: settings over those of the set.
        progress: told how many are done.

    Raises:
        NotFoundError: there is no such set.
        UsageError: the folder exists, or no structure is left.
        StoreError: the folder cannot be written.
        MissingExtraError: pymatgen is not installed.
    """
    if input_set not in (known := input_sets()):
        raise NotFoundError.naming("input set", input_set, known)
    if folder.exists():
        raise UsageError(f"{folder} exists: name a new folder")
    maker = getattr(_sets(), input_set)
    chosen = {str(own): str(own) for own in ids}
    if relaxation is not None:
        chosen = _relaxed(store, ids, relaxation)
    left_out: dict[str, int] = {}
    if len(chosen) < len(ids):
        left_out["no relaxed structure"] = len(ids) - len(chosen)
    made_by = _candidates(store, list(chosen))
    crystals = crystals_of(store, list(chosen.values()))
    potcar, done = _potcars(), 0
    target = folder.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise StoreError(f"cannot write {folder}: {error.strerror}") from error
    try:
        for origin, own in sorted(chosen.items()):
            crystal = crystals[own]
            if not crystal.ordered:
                left_out["disordered"] = left_out.get("disordered", 0) + 1
                continue
            place = hidden / _name(hidden, crystal, origin)
            _write_one(place, maker, crystal, incar or {}, potcar=potcar)
            note = {
                "format": FORMAT,
                "structure_id": origin,
                "calculated_id": own,
                "relaxation_recipe_id": None if relaxation is None else str(relaxation),
                "candidate_ids": made_by.get(origin, []),
                "atoms": dict(sorted(crystal.amounts.items())),
                "input_set": input_set,
                "incar": dict(incar or {}),
                "package": _package(),
                "files": _checksums(place),
            }
            (place / NOTE).write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
            done += 1
            progress(done)
        if not done:
            raise UsageError(
                "nothing to write: " + ", ".join(f"{n} {why}" for why, n in left_out.items())
            )
        hidden.chmod(0o755)
        hidden.rename(target)
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(hidden)
    return Written(done, potcar, left_out)


def incar_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Read settings written NAME=VALUE; values are JSON where they can be, else texts.

    Raises:
        UsageError: one is not written so.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not re.fullmatch(r"[A-Za-z_0-9]+", name.strip()):
            raise UsageError(f"--incar {text!r}: write NAME=VALUE, such as ENCUT=600")
        try:
            found[name.strip().upper()] = json.loads(value)
        except ValueError:
            found[name.strip().upper()] = value.strip()
    return found


def _write_one(
    place: Path, maker: Any, crystal: Crystal, incar: Mapping[str, Any], *, potcar: bool
) -> None:
    from gandb.representations.pymatgen_structures import to_structure

    structure = to_structure(crystal)
    structure.remove_oxidation_states()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of settings that suit metals, of missing POTCARs
        try:
            made = maker(structure.get_sorted_structure(), user_incar_settings=dict(incar))
            made.write_input(str(place), make_dir_if_not_present=True, potcar_spec=not potcar)
        except (ValueError, KeyError, RuntimeError) as error:
            raise InputError(
                f"{maker.__name__} has no inputs for {crystal.amounts}: {error}"
            ) from error


def _potcars() -> bool:
    """Say whether pymatgen knows where POTCARs are."""
    _sets()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pymatgen.core import SETTINGS

        folder = os.environ.get("PMG_VASP_PSP_DIR") or SETTINGS.get("PMG_VASP_PSP_DIR")
    return bool(folder) and Path(str(folder)).is_dir()


def _name(inside: Path, crystal: Crystal, own: str) -> str:
    formula = "".join(f"{s}{n:g}" if n != 1 else s for s, n in sorted(crystal.amounts.items()))[:60]
    short = f"{formula}-{own[:8]}"
    return f"{formula}-{own}" if (inside / short).exists() else short


def _checksums(place: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(place.iterdir())
        if path.is_file()
    }


def _relaxed(store: Store, ids: Sequence[UUID], recipe_id: UUID) -> dict[str, str]:
    relaxation = tables.relaxation.c
    found: dict[str, str] = {}
    for start in range(0, len(ids), 2_000):
        query = sa.select(relaxation.structure_id, relaxation.relaxed_id).where(
            relaxation.recipe_id == recipe_id,
            relaxation.relaxed_id.is_not(None),
            relaxation.structure_id.in_(ids[start : start + 2_000]),
        )
        with store.read() as connection:
            found |= {str(own): str(made) for own, made in connection.execute(query)}
    return found


def _candidates(store: Store, ids: Sequence[str]) -> dict[str, list[str]]:
    """Return the candidates that have structures, by structure."""
    candidate = tables.candidate.c
    found: dict[str, list[str]] = {}
    for start in range(0, len(ids), 2_000):
        wanted = [UUID(own) for own in ids[start : start + 2_000]]
        query = (
            sa.select(candidate.structure_id, candidate.id)
            .where(candidate.structure_id.in_(wanted))
            .order_by(candidate.id)
        )
        with store.read() as connection:
            for own, made in connection.execute(query):
                found.setdefault(str(own), []).append(str(made))
    return found


def _sets() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pymatgen.io.vasp import sets
    except ModuleNotFoundError:
        raise MissingExtraError.for_package("pymatgen", "pymatgen") from None
    return sets


def _package() -> str:
    from importlib.metadata import PackageNotFoundError, version

    for name in ("pymatgen-core", "pymatgen"):
        with contextlib.suppress(PackageNotFoundError):
            return f"pymatgen {version(name)}"
    return "pymatgen"

"""Results of VASP read back: entries with total energies, and the lineage of what was calculated.

Each folder with a ``gandb.json`` (see `gandb.sharing.vasp`) and a ``vasprun.xml`` gives a computed
entry as pymatgen writes it: energy without corrections, the parameters that corrections need
(run_type, hubbards, POTCARs), and under ``data`` what gandb knew: structure, candidates, recipe,
checksums. All are written into one file, which is imported like any other, so that results are
entries of a source snapshot: they can be a reference of ``gandb hull``, with mp2020 corrections.

What did not converge, or is of other atoms than its note says, is left out and told.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gandb.core.errors import InputError, MissingExtraError, NotFoundError
from gandb.sharing.vasp import FORMAT, NOTE

RESULTS = "gandb-results.json"
"""Name of the file with all results, beside the folders."""
_VASPRUN = ("vasprun.xml", "vasprun.xml.gz")
_GGA = {"PBE": "GGA", "PBE+U": "GGA+U"}
"""What pymatgen calls runs with GGA = PE in INCAR, which is what its sets run as GGA."""


@dataclass(frozen=True)
class Results:
    """What was found.

    Attributes:
        path: the file with the entries.
        n: entries in it.
        left_out: why folders have no result, by their paths.
    """

    path: Path
    n: int
    left_out: Mapping[str, str]


def collect_results(folder: Path, progress: Callable[[int], None] = lambda _: None) -> Results:
    """Read all results under a folder, and write them into one file in it.

    Args:
        folder: that `gandb.sharing.vasp.write_inputs` made, or one that holds several such.
        progress: told how many folders are done.

    Raises:
        NotFoundError: no folder has a note, or none has a result.
        InputError: the file cannot be written.
        MissingExtraError: pymatgen is not installed.
    """
    notes = sorted(folder.rglob(NOTE))
    if not notes:
        raise NotFoundError(f"no {NOTE} is under {folder}: name what gandb vasp write made")
    entries: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for done, note in enumerate(notes, 1):
        place = note.parent
        name = place.relative_to(folder).as_posix()
        try:
            entries.append(_entry(place, _note(note), name))
        except InputError as error:
            left_out[name] = str(error)
        progress(done)
    if not entries:
        first, why = next(iter(left_out.items()))
        raise NotFoundError(f"no folder under {folder} has a result; {first}: {why}")
    path = folder / RESULTS
    try:
        path.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    return Results(path, len(entries), left_out)


def _note(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{NOTE} cannot be read: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise InputError(f"{NOTE} is not of this version of gandb")
    return found


def _entry(place: Path, note: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the computed entry of a folder.

    Raises:
        InputError: it has no result, or none that counts; says why.
    """
    path = next((place / n for n in _VASPRUN if (place / n).is_file()), None)
    if path is None:
        raise InputError("has no vasprun.xml yet")
    run = _vasprun(path)
    if not run.converged:
        what = "electrons" if not run.converged_electronic else "ions"
        raise InputError(f"the {what} did not converge")
    structure = run.final_structure
    amounts = {e.symbol: float(n) for e, n in structure.composition.items()}
    if amounts != {symbol: float(n) for symbol, n in note["atoms"].items()}:
        raise InputError(f"is of {amounts}, and its {NOTE} of {note['atoms']}")
    potcars = [dict(spec) for spec in run.potcar_spec]
    kind = str(run.run_type)
    return {
        "@module": "pymatgen.entries.computed_entries",
        "@class": "ComputedStructureEntry",
        "energy": float(run.final_energy),
        "composition": amounts,
        "correction": 0.0,
        "entry_id": f"{note['calculated_id']}:{note['input_set']}",
        "parameters": {
            "run_type": _GGA.get(kind, kind),
            "is_hubbard": bool(run.is_hubbard),
            "hubbards": {k: float(v) for k, v in run.hubbards.items()},
            "potcar_spec": [{"titel": p.get("titel"), "hash": p.get("hash")} for p in potcars],
        },
        "data": {
            "gandb": {
                **{k: note[k] for k in _KEPT},
                "folder": name,
                "vasprun_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "vasp_version": str(run.vasp_version),
                "ionic_steps": len(run.ionic_steps),
            }
        },
        "structure": _plain(structure),
    }


_KEPT = (
    "structure_id", "calculated_id", "relaxation_recipe_id", "candidate_ids", "input_set", "incar",
    "package",
)  # fmt: skip


def _plain(structure: Any) -> dict[str, Any]:
    """Write a structure with its cell and sites alone."""
    return {
        "@module": "pymatgen.core.structure",
        "@class": "Structure",
        "lattice": {"matrix": structure.lattice.matrix.tolist()},
        "sites": [
            {"species": [{"element": site.specie.symbol, "occu": 1}], "abc": list(_wrapped(site))}
            for site in structure
        ],
    }


def _wrapped(site: Any) -> Iterator[float]:
    return (float(x) for x in site.frac_coords)


def _vasprun(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pymatgen.io.vasp.outputs import Vasprun
    except ModuleNotFoundError:
        raise MissingExtraError.for_package("pymatgen", "pymatgen") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what did not converge: that is looked at
        try:
            return Vasprun(str(path), parse_dos=False, parse_eigen=False, parse_potcar_file=False)
        except Exception as error:  # its parser fails in many ways on files that were cut off
            text = " ".join(str(error).split())[:200]
            raise InputError(
                f"{path.name} cannot be read: {text or type(error).__name__}"
            ) from error

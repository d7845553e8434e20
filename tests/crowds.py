"""Many crystals of which some are the same, some nearly, some not at all; and ways into a store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from gandb.core.crystals import Crystal
from gandb.schema import tables
from gandb.sources.formats import crystal_of
from gandb.sources.reading import read_files
from gandb.store import Store
from gandb.tasks.structures import crystals
from tests.shared_data import SHARED
from tests.variants import Cell, moved, noisy, variants

CUBE = np.eye(3)
FCC = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
BCC = np.array([[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]])


def _hexagonal(a: float, c: float) -> np.ndarray:
    return np.array([[a, 0, 0], [-a / 2, a * 3**0.5 / 2, 0], [0, 0, c]])


def cell(lattice: np.ndarray, species: str, coords: Sequence[Sequence[float]]) -> Cell:
    """Make a cell; species by their symbols, with a space between."""
    return Cell(np.array(lattice, float), np.array(coords, float), tuple(species.split()))


def rocksalt(a: float, one: str, other: str) -> Cell:
    """Two interpenetrating cubes, primitive."""
    return cell(a * FCC, f"{one} {other}", [[0, 0, 0], [0.5, 0.5, 0.5]])


def caesium_chloride(a: float, one: str, other: str) -> Cell:
    """A cube and its centre."""
    return cell(a * CUBE, f"{one} {other}", [[0, 0, 0], [0.5, 0.5, 0.5]])


def zincblende(a: float, one: str, other: str) -> Cell:
    """Diamond of two kinds, primitive."""
    return cell(a * FCC, f"{one} {other}", [[0, 0, 0], [0.25, 0.25, 0.25]])


def perovskite(a: float, one: str, two: str, three: str) -> Cell:
    """A cube, its centre and its faces."""
    faces = [[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    names = f"{one} {two} {three} {three} {three}"
    return cell(a * CUBE, names, [[0, 0, 0], [0.5, 0.5, 0.5], *faces])


def rutile(a: float, c: float, u: float, one: str, other: str) -> Cell:
    """Tetragonal; ``u`` is where the second kind lies along the diagonal."""
    v = 0.5 + u
    coords = [[0, 0, 0], [0.5, 0.5, 0.5], [u, u, 0], [-u, -u, 0], [v, 0.5 - u, 0.5],
              [0.5 - u, v, 0.5]]  # fmt: skip
    return cell(np.diag([a, a, c]), f"{one} {one} " + " ".join([other] * 4), coords)


def quartz() -> Cell:
    """A left-handed crystal of silica."""
    x, (y0, y1, y2) = 0.4697, (0.4135, 0.2669, 0.1191)
    coords = [
        [x, 0, 0], [0, x, 2 / 3], [-x, -x, 1 / 3],
        [y0, y1, y2], [-y1, y0 - y1, y2 + 2 / 3], [y1 - y0, -y0, y2 + 1 / 3],
        [y1, y0, -y2], [y0 - y1, -y1, 1 / 3 - y2], [-y0, y1 - y0, 2 / 3 - y2],
    ]  # fmt: skip
    return cell(_hexagonal(4.916, 5.405), "Si Si Si O O O O O O", coords)


def fluorite(a: float, one: str, other: str) -> Cell:
    """A cube with all eight of its parts filled, primitive."""
    coords = [[0, 0, 0], [0.25, 0.25, 0.25], [0.75, 0.75, 0.75]]
    return cell(a * FCC, f"{one} {other} {other}", coords)


BASES = (
    rocksalt(5.64, "Na", "Cl"),
    caesium_chloride(3.40, "Na", "Cl"),
    zincblende(5.20, "Na", "Cl"),
    rocksalt(6.29, "K", "Cl"),
    zincblende(5.65, "Ga", "As"),
    perovskite(3.905, "Sr", "Ti", "O"),
    rutile(4.594, 2.959, 0.305, "Ti", "O"),
    fluorite(4.87, "Ti", "O"),
    quartz(),
    rutile(4.18, 2.667, 0.306, "Si", "O"),
    fluorite(5.46, "Ca", "F"),
    cell(_hexagonal(3.25, 5.207), "Zn Zn O O",
         [[1 / 3, 2 / 3, 0], [2 / 3, 1 / 3, 0.5], [1 / 3, 2 / 3, 0.382], [2 / 3, 1 / 3, 0.882]]),
    cell(2.87 * BCC, "Fe", [[0, 0, 0]]),
    cell(3.45 * FCC, "Fe", [[0, 0, 0]]),
    cell(np.diag([4.1, 5.3, 6.7]), "Li Li P O O",
         [[0, 0, 0], [0.5, 0.5, 0.1], [0.2, 0.6, 0.4], [0.4, 0.1, 0.7], [0.8, 0.3, 0.8]]),
)  # fmt: skip
"""Crystals of textbooks, several of one formula, and one without symmetry."""


def real_bases(wanted: int, max_sites: int = 10) -> list[Cell]:
    """Return some real crystals where they are at hand, else none."""
    archive = SHARED / "structures" / "mp-cifs.zip"
    found: list[Cell] = []
    if wanted and archive.is_file():
        for item in read_files([archive]):
            sites = getattr(item, "structure", None)
            if sites is not None and len(record := crystal_of(sites)) <= max_sites:
                found.append(Cell.of(record))
                if len(found) == wanted:
                    break
    return found


def dense(base: Cell, count: int, rng: np.random.Generator) -> list[Cell]:
    """Return copies of one crystal with more and more noise: tight duplicates, and chains."""
    return [moved(noisy(base, rng, 0.5 * k / count), rng) for k in range(count)]


def path(base: Cell, site: int, step: np.ndarray, count: int) -> list[Cell]:
    """Return crystals in which one site moves on and on; ``step`` in Å."""
    found = []
    for k in range(count):
        coords = base.frac_coords.copy()
        coords[site] += k * step @ np.linalg.inv(base.lattice)
        found.append(Cell(base.lattice, coords % 1.0, base.species))
    return found


def crowd(rng: np.random.Generator, real: int = 0, near: int = 60) -> list[Cell]:
    """Return all bases, their variants, a dense block and a path, in any order."""
    found = []
    for base in (*BASES, *real_bases(real)):
        found.append(base)
        found += [made for _, made in variants(base.crystal(), rng, max_sites=30)]
    if near:
        found += dense(BASES[14], near, rng)
        found += path(BASES[10], 1, np.array([0.11, 0.07, 0.03]), near // 4)
    return [found[i] for i in rng.permutation(len(found))]


def extxyz(cells: Iterable[Cell]) -> str:
    """Write cells as one file of extended XYZ, exactly."""
    out = StringIO()
    for made in cells:
        lattice = " ".join(repr(float(x)) for x in made.lattice.ravel())
        out.write(f'{len(made)}\nLattice="{lattice}" Properties=species:S:1:pos:R:3 pbc="T T T"\n')
        for name, place in zip(made.species, made.frac_coords @ made.lattice, strict=True):
            out.write(f"{name} {' '.join(repr(float(x)) for x in place)}\n")
    return out.getvalue()


def write(folder: Path, name: str, cells: Iterable[Cell]) -> Path:
    """Write such a file."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}.extxyz"
    target.write_text(extxyz(cells))
    return target


def records(store: Store) -> dict[str, Crystal]:
    """Return all structures by id."""
    with store.read() as connection:
        return {str(own): record for own, record in crystals(connection)}


def partition(store: Store, recipe_id: object = None) -> dict[str, str]:
    """Return the material of each structure, under the standard recipe or another."""
    member = tables.material_member.c
    chosen = member.standard if recipe_id is None else member.recipe_id == recipe_id
    with store.read() as connection:
        rows = connection.execute(sa.select(member.structure_id, member.material_id).where(chosen))
        return {str(own): str(material) for own, material in rows}


def components(ids: Sequence[str], edges: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the smallest id that each id is linked to."""
    label = {i: i for i in ids}
    links = list(edges)
    changed = True
    while changed:
        changed = False
        for a, b in links:
            low = min(label[a], label[b])
            changed |= label[a] != low or label[b] != low
            label[a] = label[b] = low
    return label

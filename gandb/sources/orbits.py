"""Symmetry operations and the atoms that they make of those that a file lists.

An operation takes fractional coordinates x (a column) to R x + t. Positions that a file gives with
few digits, such as 0.3333, lie beside the special positions that are meant; they are put onto them
by averaging over the operations that leave an atom where it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gandb.core.crystals import MAX_SITES, CrystalError
from gandb.core.errors import MissingExtraError

NEAR = 0.05
"""Images of an atom nearer to it than this, Å, are the atom itself. Four digits leave 0.005 Å in
the largest of cells, and atoms that share a place by turns lie further apart."""
MAX_OPERATIONS = 400
"""Most operations; space groups have up to 192 in their usual cells, and a check of m of them
costs m² steps."""
MISFIT = 0.05
"""How far, relative to its edges, an operation may change the metric of a cell."""

_DENOMINATOR = 24  # of translations
_CHUNK = 200_000  # images at once
_KEYS = 1_000_003.0  # steps per cell edge in telling images apart


@dataclass(frozen=True)
class Operations:
    """A group of m operations.

    Attributes:
        rotations: float64 (m, 3, 3), of columns of fractional coordinates.
        translations: float64 (m, 3).
        reversals: float64 (m,), -1 for operations with time reversal, else 1.
    """

    rotations: np.ndarray
    translations: np.ndarray
    reversals: np.ndarray

    def __len__(self) -> int:
        return len(self.rotations)


@lru_cache(maxsize=2_000)
def read_operations(texts: tuple[str, ...], centerings: tuple[str, ...] = ()) -> Operations:
    """Read operations such as ``-x+1/2, y, z``; with ``,-1`` at the end, of a magnetic group.

    Args:
        texts: the operations; the identity may be left out.
        centerings: each is combined with every operation.

    Raises:
        CrystalError: one cannot be read, or together they are no group.
        MissingExtraError: gemmi is not installed.
    """
    try:
        import gemmi
    except ImportError:
        raise MissingExtraError.for_package("gemmi", "structures") from None
    if max(1, len(texts)) * max(1, len(centerings)) > MAX_OPERATIONS:
        raise CrystalError(f"more than {MAX_OPERATIONS:,} symmetry operations")
    found: dict[tuple[int, ...], None] = {}
    parsed = [_read(gemmi, text) for text in ("x,y,z", *texts)]
    for shift in [_read(gemmi, text) for text in ("x,y,z", *centerings)]:
        for operation in parsed:
            found.setdefault(_product(shift, operation))
    rows = np.array(list(found), np.int64)
    _check_group(rows)
    operations = Operations(
        rows[:, :9].reshape(-1, 3, 3).astype(np.float64),
        rows[:, 9:12] / _DENOMINATOR,
        rows[:, 12].astype(np.float64),
    )
    for array in (operations.rotations, operations.translations, operations.reversals):
        array.setflags(write=False)
    return operations


def expand(
    matrix: np.ndarray, coords: np.ndarray, operations: Operations
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make all atoms of the cell.

    Args:
        matrix: lattice vectors as rows (3, 3), Å.
        coords: fractional (n, 3), of the atoms that are listed.
        operations: m of them.

    Returns:
        For each atom of the cell the number of the one it is made of, int64 (k,), its fractional
        coordinates (k, 3), and the number of the operation that makes it, int64 (k,).

    Raises:
        CrystalError: the operations do not fit the cell, or there are too many atoms.
    """
    n, m = len(coords), len(operations)
    if m == 1:
        return np.arange(n), coords, np.zeros(n, np.int64)
    metric = matrix @ matrix.T
    _check_metric(metric, operations)
    step = max(1, _CHUNK // m)
    parts = []
    total = 0
    for begin in range(0, n, step):
        source, places, by = _orbits(metric, coords[begin : begin + step], operations, begin)
        total += len(source)
        if total > MAX_SITES:
            raise CrystalError(f"more than {MAX_SITES:,} sites by its symmetry")
        parts.append((source, places, by))
    sources, all_places, operators = zip(*parts, strict=True)
    return np.concatenate(sources), np.concatenate(all_places), np.concatenate(operators)


def _orbits(
    metric: np.ndarray, coords: np.ndarray, operations: Operations, first: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    places = coords - np.floor(coords)
    m = len(operations)
    for _ in range(8):
        images = np.einsum("oij,nj->noi", operations.rotations, places) + operations.translations
        apart = images - places[:, None, :]
        apart -= np.rint(apart)
        squares = ((apart @ metric) * apart).sum(axis=2)
        near = squares < NEAR * NEAR
        shift = (apart * near[:, :, None]).sum(axis=1) / near.sum(axis=1)[:, None]
        if np.abs(shift).max() < 1e-13:
            break
        places = places + shift
    stay = near.sum(axis=1)
    unclear = (m % stay != 0) | (np.where(near, squares, 0.0).max(axis=1) > 1e-8)
    if unclear.any():
        raise CrystalError(
            f"atom {first + int(np.argmax(unclear)) + 1} lies within {NEAR} Å of its own images, "
            "but on no special position: are the operations and the coordinates of one setting?"
        )
    images -= np.floor(images)
    keys = np.mod(np.rint(images * _KEYS + 0.3183), _KEYS).astype(np.int64)
    rows = np.column_stack([np.repeat(np.arange(len(places)), m), keys.reshape(-1, 3)])
    _, kept = np.unique(rows, axis=0, return_index=True)
    kept.sort()
    source, by = np.divmod(kept, m)
    if (np.bincount(source, minlength=len(places)) != m // stay).any():
        raise CrystalError("its operations make no whole number of atoms of each one listed")
    return source + first, images.reshape(-1, 3)[kept], by


def _read(gemmi: object, text: str) -> tuple[int, ...]:
    """Return rotation (9), translation (3) in 24ths and time reversal as whole numbers."""
    parts = text.strip().strip("'\"").split(",")
    reversal = 1
    if len(parts) == 4:
        try:
            reversal = {"+1": 1, "1": 1, "-1": -1}[parts.pop().strip()]
        except KeyError:
            raise CrystalError(f"symmetry operation {text[:60]!r} cannot be read") from None
    try:
        operation = gemmi.Op(",".join(parts).replace(" ", ""))  # type: ignore[attr-defined]
    except (RuntimeError, ValueError) as error:
        raise CrystalError(
            f"symmetry operation {text[:60]!r} cannot be read: {str(error)[:200]}"
        ) from None
    rotation = [n for row in operation.rot for n in row]
    if abs(operation.det_rot()) != _DENOMINATOR**3 or any(n % _DENOMINATOR for n in rotation):
        raise CrystalError(f"symmetry operation {text[:60]!r} is no rotation or reflection")
    whole = [n // _DENOMINATOR for n in rotation]
    return (*whole, *(n % _DENOMINATOR for n in operation.tran), reversal)


def _product(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    a, b = np.array(first[:9]).reshape(3, 3), np.array(second[:9]).reshape(3, 3)
    shift = (a @ np.array(second[9:12]) + np.array(first[9:12])) % _DENOMINATOR
    return (*(a @ b).ravel().tolist(), *shift.tolist(), first[12] * second[12])


def _check_group(rows: np.ndarray) -> None:
    """Refuse operations of which two make one that is not among them.

    Raises:
        CrystalError: so it is.
    """
    rotations, shifts, reversals = rows[:, :9].reshape(-1, 3, 3), rows[:, 9:12], rows[:, 12]
    turned = np.einsum("aij,bjk->abik", rotations, rotations).reshape(-1, 9)
    moved = np.einsum("aij,bj->abi", rotations, shifts) + shifts[:, None, :]
    signs = np.multiply.outer(reversals, reversals).ravel()
    products = np.column_stack([turned, moved.reshape(-1, 3) % _DENOMINATOR, signs])
    if np.abs(turned).max() > 100 or not np.isin(_coded(products), _coded(rows)).all():
        raise CrystalError(
            f"its {len(rows)} symmetry operations are no group: some are missing or wrong"
        )


def _coded(rows: np.ndarray) -> np.ndarray:
    """Return one number for each operation; entries of rotations are within 100 of 0."""
    code = np.zeros(len(rows), np.uint64)
    for column in rows.T:
        code = code * np.uint64(211) + (column + 100).astype(np.uint64)  # modulo 2**64
    return code


def _check_metric(metric: np.ndarray, operations: Operations) -> None:
    """Refuse operations that a cell does not have.

    Raises:
        CrystalError: so it is.
    """
    turned = np.einsum("oji,jk,okl->oil", operations.rotations, metric, operations.rotations)
    edges = np.sqrt(np.diag(metric))
    misfit = np.abs(turned - metric).max(axis=0) / np.outer(edges, edges)
    if misfit.max() > MISFIT:
        raise CrystalError(
            "its symmetry operations do not fit its cell: is it another setting, such as "
            "rhombohedral axes with hexagonal operations?"
        )

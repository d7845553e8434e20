"""Structures as one value each, which DuckDB finds far faster than lists spread over a table.

A packed structure is, little endian: the number of sites n (uint32), the charge (float64, NaN
without one), lengths and angles (6 float64, Å and degrees), fractional coordinates in steps of 1e-8
(3 n int32), and UTF-8 JSON ``{"s": [[species, how many sites in a row], ...], "p": properties}``.
"""

from __future__ import annotations

import json
import math
import struct
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from gandb.core.crystals import GRID, Crystal

_HEAD = struct.Struct("<I7d")


def pack_columns(
    a: pa.Array,
    b: pa.Array,
    c: pa.Array,
    alpha: pa.Array,
    beta: pa.Array,
    gamma: pa.Array,
    charge: pa.Array,
    species: pa.Array,
    frac_coords: pa.Array,
    site_properties: pa.Array,
) -> pa.Array:
    """Pack rows of these columns of the table ``structure``."""
    cell_columns = (charge, a, b, c, alpha, beta, gamma)
    numbers = [np.asarray(_plain(v).cast(pa.float64()).fill_null(math.nan)) for v in cell_columns]
    cells = np.stack(numbers, axis=1).tolist()
    sites = _plain(species).to_pylist()
    lists = _plain(frac_coords)
    flat = np.asarray(lists.flatten())
    steps = np.rint(flat * GRID).astype("<i4")
    ends = np.cumsum([3 * len(s) for s in sites]).tolist()
    properties = _plain(site_properties).to_pylist()
    packed, begin = [], 0
    for cell, names, end, own in zip(cells, sites, ends, properties, strict=True):
        packed.append(_packed(cell, names, steps[begin:end].tobytes(), own))
        begin = end
    return pa.array(packed, pa.binary())


def _plain(column: Any) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _packed(cell: list[float], species: list[str], steps: bytes, properties: str | None) -> bytes:
    runs = [[name, sum(1 for _ in group)] for name, group in groupby(species)]
    rest: dict[str, Any] = {"s": runs}
    if properties:
        rest["p"] = json.loads(properties)
    text = json.dumps(rest, separators=(",", ":"), ensure_ascii=False)
    return _HEAD.pack(len(species), *cell) + steps + text.encode("utf-8", "surrogatepass")


def unpack(data: bytes) -> Crystal:
    """Return the record of a packed structure."""
    n, charge, *cell = _HEAD.unpack_from(data)
    end = _HEAD.size + 12 * n
    steps = np.frombuffer(data, "<i4", 3 * n, _HEAD.size).reshape(n, 3)
    rest = json.loads(data[end:].decode("utf-8", "surrogatepass"))
    properties = rest.get("p", {})
    return Crystal(
        lengths=np.array(cell[:3]),
        angles=np.array(cell[3:]),
        species=tuple(name for name, times in rest["s"] for _ in range(times)),
        frac_coords=steps / GRID,
        properties={k: tuple(properties[k]) for k in sorted(properties)},
        charge=None if math.isnan(charge) else charge,
    )

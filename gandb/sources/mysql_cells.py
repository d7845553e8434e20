"""Cells of a MySQL dump as columns of Arrow.

Text that is not UTF-8 is read as Windows-1252, which is what MySQL calls latin1. A literal such as
``0x4142`` or ``b'0101'`` is bytes, in a column of numbers a whole number.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gandb.sources import _mysql_kernel as kernel

_UNDEFINED = b"\x81\x8d\x8f\x90\x9d"
"""Bytes that Windows-1252 leaves undefined; MySQL takes them for control characters."""


def column(
    data: np.ndarray,
    field: pa.Field,
    sound: np.ndarray,
    reasons: dict[int, str],
    starts: np.ndarray,
    stops: np.ndarray,
    kinds: np.ndarray,
) -> pa.Array:
    """Return n cells of a column; those of rows that are not sound are null.

    Args:
        data: uint8, the bytes of the dump.
        field: name and type of the column: string, binary, integer or floating.
        sound: bool (n,), which rows are; those whose cell is not of the type become unsound.
        reasons: why rows are not, by number.
        starts: int32 (n,), where each cell begins.
        stops: int32 (n,), where it ends.
        kinds: uint8 (n,), how it is written.
    """
    if not sound.all():
        kinds = np.where(sound, kinds, kernel.NULL).astype(np.uint8)
    number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
    if (kinds >= kernel.HEX).any():
        return _slow_column(_odd_cells(data, starts, stops, kinds, number), field, sound, reasons)
    valid = kinds != kernel.NULL
    room = int((stops - starts)[valid].sum(dtype=np.int64))
    offsets = np.empty(len(starts) + 1, np.int32)
    out = np.empty(room, np.uint8)
    used = kernel.gather(data, starts, stops, kinds, offsets, out)
    nulls = None
    if not valid.all():
        nulls = pa.py_buffer(np.packbits(valid, bitorder="little").tobytes())
    buffers = [nulls, pa.py_buffer(offsets), pa.py_buffer(out[:used])]
    cells = pa.Array.from_buffers(pa.binary(), len(starts), buffers)
    if pa.types.is_binary(field.type):
        return cells
    try:
        texts = cells.cast(pa.string())  # checks that it is UTF-8
        if not number:
            return texts
        values = texts.cast(field.type)
        if pa.types.is_integer(field.type) or pc.all(pc.is_finite(values)).as_py() is not False:
            return values
    except pa.ArrowInvalid:
        pass
    return _slow_column(cells.to_pylist(), field, sound, reasons)


def _odd_cells(
    data: np.ndarray, starts: np.ndarray, stops: np.ndarray, kinds: np.ndarray, number: bool
) -> list[bytes | None]:
    """Return cells of which some are hexadecimal or bits: whole numbers, or bytes."""
    found: list[bytes | None] = []
    cells = zip(starts.tolist(), stops.tolist(), kinds.tolist(), strict=True)
    for place, (start, stop, kind) in enumerate(cells):
        text = data[start:stop].tobytes()
        if kind == kernel.NULL:
            found.append(None)
        elif kind < kernel.HEX:
            offsets = np.empty(2, np.int32)
            out = np.empty(len(text), np.uint8)
            one = slice(place, place + 1)
            kernel.gather(data, starts[one], stops[one], kinds[one], offsets, out)
            found.append(out[: offsets[1]].tobytes())
        else:
            found.append(_literal(text, 16 if kind == kernel.HEX else 2, number))
    return found


def _literal(text: bytes, base: int, number: bool) -> bytes:
    """Return what a hexadecimal or bit literal stands for; the text itself if it is none."""
    digits = b"0123456789abcdefABCDEF" if base == 16 else b"01"
    if text.strip(digits):
        return b"?" + text
    value = int(text, base) if text else 0
    if number:
        return str(value).encode()
    return value.to_bytes(-(-len(text) // (2 if base == 16 else 8)), "big")


def _slow_column(
    cells: Sequence[bytes | None], field: pa.Field, sound: np.ndarray, reasons: dict[int, str]
) -> pa.Array:
    """Convert cells one by one; a cell that is not of its type costs its row."""
    if pa.types.is_binary(field.type):
        return pa.array(cells, field.type)
    values: list[str | int | float | None] = []
    for place, cell in enumerate(cells):
        value: str | int | float | None = None
        if cell is not None:
            text = _decoded(cell)
            try:
                value = _converted(text, field.type)
            except (ValueError, OverflowError, pa.ArrowException):
                if sound[place]:
                    sound[place] = False
                    reasons[place] = f"{field.name} is {text[:40]!r}, which is no {field.type}"
        values.append(value)
    return pa.array(values, field.type)


def _decoded(cell: bytes) -> str:
    try:
        return cell.decode()
    except UnicodeDecodeError:
        pass
    return "".join(chr(c) if c in _UNDEFINED else bytes([c]).decode("cp1252") for c in cell)


def _converted(text: str, kind: pa.DataType) -> str | int | float:
    """Return a text as a value of its type.

    Raises:
        ValueError: it is none, or not finite.
        OverflowError, pa.ArrowException: it is too large.
    """
    if pa.types.is_string(kind):
        return text
    if "_" in text or not text.isascii():
        raise ValueError(text)  # Python's numbers, not SQL's
    if pa.types.is_integer(kind):
        value = int(text)
        pa.scalar(value, kind)
        return value
    number = float(text)
    if not np.isfinite(number):
        raise ValueError(text)
    return number

"""Chemical formulas as text, read into compositions.

Two readers give one answer. The compiled one takes what databases mostly hold (``Ba1I2O6``,
``Sr3(SnIr)4``); every other text goes to the exact one, which also takes decimal amounts
(``La0.5Sr0.5MnO3`` becomes La Sr Mn2 O6, by exact fractions), Unicode subscripts, spaces,
separated parts (``CuSO4·5H2O``), and otherwise says why a text is refused.

Compositions come back as written, not divided by their greatest common divisor; decimal amounts
become the least whole numbers in the same ratio. Amounts that were rounded (``Ca0.3333Ru0.6667``)
need more atoms than a formula may hold and are refused: what was meant is not guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

import numpy as np
import pyarrow as pa

from gandb.core._formula_kernel import read_plain
from gandb.core.compositions import MAX_ATOMS, CompositionBatch
from gandb.core.elements import ATOMIC_NUMBERS
from gandb.core.errors import FormulaError

MAX_LENGTH = 1_000
"""Most characters that one formula may have."""

_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SUPERSCRIPTS = frozenset("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻")
_SEPARATORS = frozenset("·•∙⋅")
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_ISOTOPES = frozenset({"D", "T"})
_SYMBOL = re.compile(r"[A-Z][a-z]*")
_NUMBER = re.compile(r"[0-9]*\.[0-9]+|[0-9]+")
_DECIMAL_OR_HYDRATE = re.compile(r"[1-9][0-9]*\.[0-9]+H2O$")


@dataclass(frozen=True)
class ParsedFormulas:
    """What n texts hold.

    Attributes:
        batch: compositions of the good rows as written, k of them.
        rows: int64 (k,), the row of each composition, ascending.
        rejects: (row, reason) of every other row, ascending; k + len(rejects) == n.
    """

    batch: CompositionBatch
    rows: np.ndarray
    rejects: list[tuple[int, str]]


def parse_formulas(strings: pa.Array | pa.ChunkedArray) -> ParsedFormulas:
    """Read many formulas.

    Args:
        strings: (n,) of an Arrow string type; a null is refused as missing.

    Raises:
        TypeError: ``strings`` does not hold strings.
    """
    if not (pa.types.is_string(strings.type) or pa.types.is_large_string(strings.type)):
        raise TypeError(f"formulas must be Arrow strings, not {strings.type}")
    if isinstance(strings, pa.ChunkedArray):
        strings = strings.cast(pa.large_string()).combine_chunks()
    text_offsets, data = _buffers(strings)
    plain, offsets, numbers, counts = read_plain(text_offsets, data, MAX_ATOMS)
    batch = CompositionBatch(offsets, numbers, counts)
    if plain.all():
        return ParsedFormulas(batch, np.arange(len(plain)), [])

    others = np.flatnonzero(~plain)
    exact: list[dict[str, int]] = []
    exact_rows: list[int] = []
    rejects: list[tuple[int, str]] = []
    for row, text in zip(others.tolist(), strings.take(pa.array(others)).to_pylist(), strict=True):
        try:
            exact.append(_read("" if text is None else text))
            exact_rows.append(row)
        except FormulaError as error:
            rejects.append((row, str(error)))
    rows = np.flatnonzero(plain)
    joined = CompositionBatch.concatenate(
        [batch.take(rows), CompositionBatch.from_dicts(exact)] if exact else [batch.take(rows)]
    )
    rows = np.concatenate([rows, np.array(exact_rows, np.int64)])
    order = np.argsort(rows, kind="stable")
    return ParsedFormulas(joined.take(order), rows[order], rejects)


def parse_formula(text: str) -> dict[str, int]:
    """Read one formula into ``{symbol: count}``, in order of first appearance.

    Raises:
        FormulaError: with the formula and the reason.
    """
    try:
        return _read(text)
    except FormulaError as error:
        raise FormulaError(f"formula {text[:80]!r}: {error}") from None


def _buffers(strings: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return offsets (n+1,) and bytes of an Arrow string array, without copying."""
    wide = pa.types.is_large_string(strings.type)
    if len(strings) == 0:
        return np.zeros(1, np.int64), np.zeros(0, np.uint8)
    _, offsets, data = strings.buffers()
    text_offsets = np.frombuffer(offsets, np.int64 if wide else np.int32)
    text_offsets = text_offsets[strings.offset : strings.offset + len(strings) + 1]
    if data is None:
        return text_offsets, np.zeros(0, np.uint8)
    return text_offsets, np.frombuffer(data, np.uint8)


def _read(text: str) -> dict[str, int]:
    """Read one formula exactly.

    Raises:
        FormulaError: with the reason alone; positions count characters from 1.
    """
    if not text.strip():
        raise FormulaError("empty formula")
    if len(text) > MAX_LENGTH:
        raise FormulaError(f"formula of {len(text):,} characters; at most {MAX_LENGTH:,} are read")
    amounts = _Reader(text.translate(_SUBSCRIPTS)).read()
    scale = Fraction(lcm(*(amount.denominator for amount in amounts.values())))
    if scale > 1:
        scale /= gcd(*(int(amount * scale) for amount in amounts.values()))
    atoms = int(sum(amounts.values()) * scale)
    if atoms > MAX_ATOMS:
        number = f"{atoms:,}" if atoms < 10**15 else f"about 10^{len(str(atoms)) - 1}"
        whole = " when amounts are made whole" if scale != 1 else ""
        raise FormulaError(f"{number} atoms{whole}; at most {MAX_ATOMS:,} are allowed")
    return {symbol: int(amount * scale) for symbol, amount in amounts.items()}


class _Reader:
    """Reads one text from left to right; groups wait on a stack."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.parts = 0

    def read(self) -> dict[str, Fraction]:
        """Return the amount of every element."""
        ambiguous = _DECIMAL_OR_HYDRATE.search(self.text)
        if ambiguous:
            raise FormulaError(
                f"{ambiguous.group()!r} at character {ambiguous.start() + 1} reads as a decimal or "
                "as a hydrate; write '·' before the water, or a space before the next symbol"
            )
        total: dict[str, Fraction] = {}
        while True:
            self._skip_spaces()
            start = self.at
            numbered = _NUMBER.match(self.text, self.at) is not None
            factor = self._count()
            for symbol, amount in self._part().items():
                total[symbol] = total.get(symbol, Fraction(0)) + factor * amount
            self.parts += 1
            if self.at == len(self.text):
                if self.parts == 1 and numbered:
                    raise FormulaError(f"a number at character {start + 1} with nothing before it")
                return total
            self.at += 1  # past the separator that ended the part

    def _part(self) -> dict[str, Fraction]:
        """Read up to the end of the text or a separator."""
        stack: list[tuple[int, dict[str, Fraction]]] = []
        current: dict[str, Fraction] = {}
        while True:
            self._skip_spaces()
            if self.at == len(self.text) or self._at_separator():
                if stack:
                    opened = stack[-1][0]
                    raise FormulaError(f"unmatched {self.text[opened]!r} at character {opened + 1}")
                if not current:
                    raise FormulaError(f"empty part at character {self.at + 1}")
                return current
            here = self.at
            character = self.text[here]
            if character in _CLOSING:
                stack.append((here, current))
                current = {}
                self.at += 1
            elif character in ")]}":
                if not stack or _CLOSING[self.text[stack[-1][0]]] != character:
                    raise FormulaError(f"unmatched {character!r} at character {here + 1}")
                if not current:
                    raise FormulaError(f"empty brackets at character {stack[-1][0] + 1}")
                self.at += 1
                factor = self._count()
                group, current = current, stack.pop()[1]
                for symbol, amount in group.items():
                    current[symbol] = current.get(symbol, Fraction(0)) + factor * amount
            else:
                symbol = self._symbol()
                current[symbol] = current.get(symbol, Fraction(0)) + self._count()

    def _symbol(self) -> str:
        match = _SYMBOL.match(self.text, self.at)
        if match is None:
            raise FormulaError(self._unexpected())
        symbol = match.group()
        if symbol in _ISOTOPES:
            raise FormulaError(
                f"{symbol!r} at character {self.at + 1} is an isotope of hydrogen; write H"
            )
        if symbol not in ATOMIC_NUMBERS:
            raise FormulaError(f"unknown element {symbol!r} at character {self.at + 1}")
        self.at = match.end()
        return symbol

    def _count(self) -> Fraction:
        """Read the amount at this point, 1 if there is none."""
        self._skip_spaces()
        match = _NUMBER.match(self.text, self.at)
        if match is None:
            return Fraction(1)
        digits = match.group()
        place = f"at character {self.at + 1}"
        if not digits.strip("0."):
            raise FormulaError(f"zero count {digits!r} {place}")
        if len(digits) > 1 and digits[0] == "0" and digits[1] != ".":
            raise FormulaError(f"count {digits!r} {place} begins with a zero; is it the letter O?")
        self.at = match.end()
        return Fraction(digits)

    def _skip_spaces(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def _at_separator(self) -> bool:
        """Whether a separator is here; a full stop is one where no digit follows it."""
        character = self.text[self.at]
        if character in _SEPARATORS:
            return True
        following = self.text[self.at + 1 : self.at + 2]
        return character == "." and (following.isupper() or following in _CLOSING)

    def _unexpected(self) -> str:
        """Say what is wrong with the character here, which begins no symbol."""
        character = self.text[self.at]
        place = f"at character {self.at + 1}"
        rest = self.text[self.at + 1 :]
        sign = self.text[self.at : self.at + 12]
        if character == "-" and _NUMBER.match(rest):
            return f"negative count {sign!r} {place}"
        if character in "+^" or character in _SUPERSCRIPTS or (character == "-" and not rest):
            return f"a charge ({sign!r} {place}) has no place in a formula"
        if character.isdigit() or (character == "." and rest[:1].isdigit()):
            return f"a number {place} with nothing before it"
        return f"unexpected {character!r} {place}"

"""A second reader of MySQL dumps: slow, plain, byte by byte, all in memory."""

from __future__ import annotations

from itertools import pairwise

Cell = bytes | None
Table = tuple[list[str], list[list[Cell]]]

_ESCAPES = {b"0": b"\0", b"b": b"\b", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"Z": b"\x1a"}


class _EndError(Exception):
    pass


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def next(self) -> bytes:
        if self.at >= len(self.data):
            raise _EndError
        self.at += 1
        return self.data[self.at - 1 : self.at]

    def tokens(self) -> list[tuple[str, bytes]]:
        """Return the tokens of the next statement, without its semicolon."""
        found: list[tuple[str, bytes]] = []
        while True:
            c = self.next()
            if c in b" \t\r\n\v\f":
                continue
            if c == b";":
                return found
            rest = self.data[self.at - 1 : self.at + 2]
            if not found and (rest.startswith((b"--", b"#"))):
                while self.next() != b"\n":
                    pass
            elif rest.startswith(b"/*"):
                while self.data[self.at - 2 : self.at] != b"*/":
                    self.next()
            elif c in b"'\"":
                found.append(("text", self.string(c)))
            elif c == b"`":
                found.append(("name", self.string(c)))
            elif c in b"(),":
                found.append((c.decode(), c))
            else:
                word = c
                while self.at < len(self.data) and self.data[self.at] not in b" \t\r\n(),;'\"`":
                    word += self.next()
                found.append(("word", word))

    def string(self, quote: bytes) -> bytes:
        text = b""
        while True:
            c = self.next()
            if c == quote:
                if self.data[self.at : self.at + 1] != quote:
                    return text
                text += self.next()
            elif c == b"\\" and quote != b"`":
                c = self.next()
                text += b"\\" + c if c in b"%_" else _ESCAPES.get(c, c)
            else:
                text += c


def slow_tables(data: bytes) -> dict[str, Table]:
    """Return all tables of a dump: columns and rows; what is cut off at the end is left out."""
    reader = _Reader(data)
    tables: dict[str, Table] = {}
    while True:
        try:
            tokens = reader.tokens()
        except _EndError:
            return tables
        words = [word.upper() for kind, word in tokens if kind == "word"]
        if words[:2] == [b"CREATE", b"TABLE"]:
            name = next(word for kind, word in tokens if kind == "name").decode()
            columns = []
            depth = 0
            for before, token in pairwise(tokens):
                depth += {"(": 1, ")": -1}.get(before[0], 0)
                if depth == 1 and before[0] in ("(", ",") and token[0] == "name":
                    columns.append(token[1].decode().lower())
            tables[name] = columns, []
        elif words[:1] in ([b"INSERT"], [b"REPLACE"]):
            names = [word.decode() for kind, word in tokens if kind == "name"]
            columns, rows = tables[names[0]]
            given = [name.lower() for name in names[1:]] or columns
            place = next(i for i, t in enumerate(tokens) if t[1].upper() == b"VALUES")
            for row in _rows(tokens[place + 1 :]):
                known = dict(zip(given, row, strict=True))
                rows.append([known.get(name) for name in columns])


def _rows(tokens: list[tuple[str, bytes]]) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    literal = b""
    for kind, word in tokens:
        if kind == "(":
            rows.append([])
        elif kind == "text":
            value = word
            if literal.upper() == b"X":
                value = bytes.fromhex(word.decode())
            rows[-1].append(value)
            literal = b""
        elif kind == "word":
            if word.upper() in (b"X", b"_BINARY", b"_UTF8MB4"):
                literal = word
            elif word.upper() == b"NULL":
                rows[-1].append(None)
            elif word[:2] == b"0x":
                rows[-1].append(bytes.fromhex(word[2:].decode()))
            else:
                rows[-1].append(word)
    return rows

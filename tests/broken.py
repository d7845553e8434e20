"""Two thousand broken files, the same ones every time, and what of each may come in.

Every file is made of small good structures (`tests.good_files`), so that it is known exactly which
records are good: those beside the broken one. What is cut, is cut so that something is missing.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.good_files import BINARY, WRITERS, Draft, Writer, draft

TOTAL = 2_000


@dataclass(frozen=True)
class Broken:
    """One broken file.

    Attributes:
        what: the fault, in a word or two.
        name: of the file.
        data: what it holds.
        good: numbers of the drafts that come in.
        perhaps: of those that may: what stands behind damage that hides where it ends.
        says: pattern that a reason has.
    """

    what: str
    name: str
    data: bytes
    good: tuple[int, ...] = ()
    perhaps: tuple[int, ...] = ()
    says: str = ""


# --- faults of structures ------------------------------------------------------------------

Change = Callable[[Draft], Draft]


def _cell(place: int, value: Any) -> Change:
    return lambda of: replace(of, cell=[*of.cell[:place], value, *of.cell[place + 1 :]])


def _angles(*angles: float) -> Change:
    return lambda of: replace(of, cell=[*of.cell[:3], *angles])


def _vector(row: int, change: Callable[[list[list[Any]]], Any]) -> Change:
    def changed(of: Draft) -> Draft:
        lattice = [list(vector) for vector in of.lattice]
        lattice[row] = change(lattice)
        return replace(of, lattice=lattice)

    return changed


def _sum(lattice: list[list[Any]]) -> list[Any]:
    return [x + y for x, y in zip(lattice[0], lattice[1], strict=True)]


def _coords(place: int, change: Callable[[list[Any]], Any]) -> Change:
    def changed(of: Draft) -> Draft:
        coords = [list(row) for row in of.coords]
        coords[place] = change(coords[place])
        return replace(of, coords=coords)

    return changed


def _put(at: int, value: Any) -> Callable[[list[Any]], Any]:
    return lambda row: [*row[:at], value, *row[at + 1 :]]


def _without(name: str) -> Change:
    return lambda of: replace(of, without=frozenset((name,)))


def _instead(name: str, value: Any) -> Change:
    return lambda of: replace(of, instead={name: value})


def _species(*symbols: Any) -> Change:
    return lambda of: replace(of, species=[*of.species[: 4 - len(symbols)], *symbols])


def _shares(*shares: Any) -> Change:
    return lambda of: replace(of, shares=[*of.shares[: 4 - len(shares)], *shares])


def _overfull(of: Draft) -> Draft:
    coords = [of.coords[0], *of.coords[:1], *of.coords[2:]]
    return replace(of, shares=[0.7, 0.7, 1.0, 1.0], coords=coords)


def _together(near: float) -> Change:
    def changed(of: Draft) -> Draft:
        x, y, z = of.coords[0]
        return replace(of, coords=[of.coords[0], [x + near, y, z], *of.coords[2:]])

    return changed


NAN, INF = math.nan, math.inf
CELL_WORDS = "volume|length|angle|number|finite|Å|cell|CIF|given|bounds|lattice|positive"
PLACE_WORDS = "coord|number|finite|position|shape|column|CIF|million|site|atom|float|line"
SHARE_WORDS = "occup|place|CIF|number|sites|finite|concentration"
SPECIES_WORDS = "element|species|atom|symbol|site|column|line|label|numbers|Direct|CIF|composition"

Fault = tuple[str, str, Change, str]
"""What, which writers can have it, how, and what the reason has."""


def _faults() -> Iterator[Fault]:
    for near in (0.0, 1e-7, 1e-4, -1e-4):
        yield "duplicate atoms", "", _together(near), "one place"
    wrong = (NAN, INF, -INF, "abc", 1e15, "0.1.2", "1e", "--0.5", 1e308, "0x10")
    for k, value in enumerate(wrong):
        yield "a coordinate", "", _coords(k % 4, _put(k % 3, value)), PLACE_WORDS
    for k in range(4):
        yield "too few coordinates", "", _coords(k, lambda row: row[:2]), PLACE_WORDS
    for symbol in ("Xx", "Foo", "Q9", "", "Zz", "nan", "119", "-1", "Vac9"):
        yield "wrong species", "", _species(symbol, symbol), SPECIES_WORDS
    for symbol in ("Xx", "Foo", "Vac9"):
        yield "wrong species", "", _species(symbol), SPECIES_WORDS
    yield "no sites", "", lambda of: replace(of, species=[], coords=[], shares=[]), ""
    yield from _faults_of_cells()
    few = ((1.5,), (2.0,), (1.01,), (-0.5,), (NAN,), (INF,), ("abc",), (1e9,), (-1e-3, 1.0))
    for shares in (*few, (0.0,) * 4):
        yield "occupancies", "shares", _shares(*shares), SHARE_WORDS
    yield "overfull places", "shares", _overfull, "one place|occup"
    for count in (3, 5, 0, -4, 10**6, 10**12, "four", "4.5", NAN, ""):
        yield "mismatched counts", "counts", _instead("counts", count), ""
    more = [0.25, 0.25, 0.25]
    for change in (
        lambda of: replace(of, coords=of.coords[:3]),
        lambda of: replace(of, coords=[*of.coords, more]),
        lambda of: replace(of, species=of.species[:3], shares=of.shares[:3]),
        lambda of: replace(of, species=[*of.species, "O"], shares=[*of.shares, 1.0]),
    ):
        yield "mismatched lists", "lists", change, ""


def _faults_of_cells() -> Iterator[Fault]:
    wrong = (NAN, INF, None, NAN, -INF, None, "abc", "4.0.1", "", 0.0, 180.0, 0.0, -4.5, -4.0)
    for k, value in enumerate(wrong):
        yield "cell", "parameters", _cell(k % 6, value), CELL_WORDS
    for k in range(3):
        yield "a negative length", "parameters", _cell(k, -4.25 - k), CELL_WORDS
    for k in range(6):
        yield "no volume", "parameters", _cell(k, 0.0), CELL_WORDS
    for k, size in enumerate((1e6, 1e9, 1e308, 1.5e3)):
        yield "a huge cell", "parameters", _cell(k % 3, size), CELL_WORDS
    for k in range(2):
        yield "a tiny cell", "parameters", _cell(k, 1e-9), CELL_WORDS
    for angles in (
        (30, 30, 90), (120, 120, 120), (150, 60, 60), (179.9999, 90, 90), (200, 90, 90),
        (90, -90, 90), (90, 90, 360), (0, 0, 0), (170, 170, 170),
    ):  # fmt: skip
        yield "impossible angles", "parameters", _angles(*angles), CELL_WORDS
    for k, first in enumerate((NAN, INF, -INF, "abc", 1e6, 1e308, "1.2.3")):
        yield "lattice", "vectors", _vector(k % 3, lambda m, v=first: [v, *m[1][1:]]), ""  # type: ignore[misc]
    for k in range(3):
        yield "no volume", "vectors", _vector(k, lambda m: [0.0] * 3), "volume|length|positive"
    yield "coplanar vectors", "vectors", _vector(2, _sum), "volume"
    yield (
        "coplanar vectors",
        "vectors",
        _vector(1, lambda m: [-2 * x for x in m[0]]),
        "volume|angle",
    )
    yield "coplanar vectors", "vectors", _vector(0, lambda m: m[1]), "volume|angle"
    yield "a tiny cell", "vectors", _vector(0, lambda m: [1e-9, 0.0, 0.0]), CELL_WORDS
    yield "a short vector", "vectors", _vector(1, lambda m: m[1][:2]), ""


FAULTS = list(_faults())

BARE = frozenset(("oqmdapi.json", "aflux.json", "numbered.json", "aflowlib.out"))
"""Formats in which a record without sites is a record, of its formula."""
DEEP = '"@deep@"'
GARBAGE: tuple[Any, ...] = (
    "x",
    5,
    True,
    -1.5,
    [[[]]],
    {"a": {"b": [1, {"c": None}]}},
    ["x", None, {}],
    "@deep@",
)
FIELDS = frozenset(
    "lattice_vectors cartesian_site_positions species_at_sites attributes sites abc species "
    "element matrix lattice lattice_mat coords elements atoms cell positions numbers a gamma "
    "energy cif".split()
)
"""Names among what writers take that are JSON fields without which there is no structure."""
NUMBERS = frozenset(("a", "gamma", "energy"))
"""Those of them that are numbers."""


# --- files ---------------------------------------------------------------------------------


class Numbers:
    """Drafts that no other file has."""

    def __init__(self) -> None:
        self.last = 0

    def take(self, n: int) -> list[Draft]:
        self.last += n
        return [draft(self.last - n + 1 + k) for k in range(n)]


def numbers_of(drafts: Sequence[Draft]) -> tuple[int, ...]:
    return tuple(of.number for of in drafts)


def _changed(writer: Writer, new: Numbers, what: str, change: Change, says: str) -> Broken:
    """A file with one broken structure, between good ones where the format holds several."""
    drafts = new.take(writer.most)
    at = len(drafts) // 2
    written = [change(of) if k == at else of for k, of in enumerate(drafts)]
    data = writer.file(written).replace(DEEP.encode(), b"[" * 90_000 + b"]" * 90_000)
    others = numbers_of(drafts[:at] + drafts[at + 1 :])
    deep = DEEP.encode() in writer.file(written)
    if deep and writer.whole:
        return Broken(what, writer.name, data, says=says)
    sure = not deep or writer.apart
    return Broken(what, writer.name, data, others if sure else (), () if sure else others, says)


def structural(new: Numbers) -> Iterator[Broken]:
    """Structures that are none, in every format that can say so."""
    for writer in WRITERS:
        for what, tag, change, says in FAULTS:
            if not tag or tag in writer.takes:
                if what == "no sites" and writer.name in BARE:
                    continue
                yield _changed(writer, new, what, change, says)
    for name, (write, takes) in BINARY.items():
        chosen = [f for f in FAULTS if (not f[1] or f[1] in takes)]
        for what, _, change, says in (
            chosen[:: len(chosen) // 12 + 1] if name == "dump.sql" else chosen
        ):
            drafts = new.take(3)
            others = numbers_of([drafts[0], drafts[2]])
            data = write([drafts[0], change(drafts[1]), drafts[2]])
            yield Broken(what, name, data, others, says=says if name != "dump.sql" else "")


def fields(new: Numbers) -> Iterator[Broken]:
    """Fields of JSON that are missing or of another type, and of texts that are missing."""
    for writer in WRITERS:
        for name in sorted(writer.takes & FIELDS):
            yield _changed(writer, new, f"without {name}", _without(name), "")
            for garbage in GARBAGE:
                if name in NUMBERS and garbage in (5, -1.5):
                    continue
                yield _changed(writer, new, f"garbage as {name}", _instead(name, garbage), "")
    texts = {
        "many.cif": ("_cell_length_a", "_cell_length_c", "_cell_angle_beta", "fract_x", "fract_z"),
        "cdvae.csv": ("_cell_length_b", "fract_y"),
        "x.vasp": ("names", "mode"),
        "leaderboard.csv": ("names", "mode"),
        "frames.extxyz": ("lattice",),
    }
    for writer in WRITERS:
        for name in texts.get(writer.name, ()):
            yield _changed(writer, new, f"without {name}", _without(name), "")


def cut(writer: Writer, new: Numbers, chance: random.Random) -> Broken:
    """A file that ends within a record, or before its end mark."""
    drafts = new.take(writer.most)
    data = writer.file(drafts)
    which = chance.randrange(len(drafts))
    begin, complete = writer.ends(drafts)[which]
    at = chance.randrange(begin + 12, complete)
    before = () if writer.whole else numbers_of(drafts[:which])
    return Broken("cut off", writer.name, data[:at], before)


def end_cut(writer: Writer, new: Numbers) -> Broken:
    """A file that lacks nothing but its end mark."""
    drafts = new.take(writer.most)
    data = writer.file(drafts).rstrip()
    return Broken("no end", writer.name, data[:-1], () if writer.whole else numbers_of(drafts))


ENCODINGS = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "cp500", "cp037")


def encoded(writer: Writer, new: Numbers, chance: random.Random) -> Iterator[Broken]:
    """Files in other encodings, and of nonsense under a good name."""
    for encoding in ENCODINGS:
        drafts = new.take(writer.most)
        text = writer.file(drafts).decode().encode(encoding)
        yield Broken(f"in {encoding}", writer.name, text)
    yield Broken("noise", writer.name, chance.randbytes(chance.randrange(1, 5_000)))
    yield Broken("zeros", writer.name, bytes(chance.randrange(1, 5_000)))
    yield Broken("empty", writer.name, b"")
    yield Broken("blank", writer.name, b" \n\t\n \n")


_DECIMAL = re.compile(rb"\d\.\d+")


def struck(writer: Writer, new: Numbers, chance: random.Random) -> Broken:
    """A file with one byte within a number that no number has."""
    drafts = new.take(writer.most)
    data = bytearray(writer.file(drafts))
    which = chance.randrange(len(drafts))
    begin, complete = writer.ends(drafts)[which]
    if writer.name == "leaderboard.csv":
        begin = data.index(b",", data.index(b",", begin) + 1)
    spans = [m.span() for m in _DECIMAL.finditer(data, begin, complete)]
    first, last = chance.choice(spans)
    data[chance.randrange(first, last)] = chance.choice([0, *range(0x80, 0x100)])
    others = numbers_of(drafts[:which] + drafts[which + 1 :])
    sure = others if writer.apart else ()
    return Broken("a byte in a number", writer.name, bytes(data), sure, () if sure else others)


def broken_files(seed: int = 0) -> list[Broken]:
    """All of them: of each fault in each format one at least, and all archives."""
    from tests import broken_archives

    chance = random.Random(seed)
    new = Numbers()
    plain = [*structural(new), *fields(new)]
    for writer in WRITERS:
        plain += encoded(writer, new, chance)
        plain += [cut(writer, new, chance) for _ in range(6)]
        plain += [struck(writer, new, chance) for _ in range(5)]
        if writer.tail:
            plain.append(end_cut(writer, new))
    rest = broken_archives.files(new, chance, plain)
    chance.shuffle(plain)
    first = {(each.what, each.name): each for each in plain}
    kept = list(first.values())
    taken = {id(each) for each in kept}
    kept += [each for each in plain if id(each) not in taken][: TOTAL - len(rest) - len(kept)]
    return [*kept, *rest]

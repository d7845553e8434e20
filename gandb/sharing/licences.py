"""What the licences of sources allow: what may be handed on, on which terms, and what may not.

The table below is gandb's reading of licences whose texts allow everybody to hand data on. It is
compared with the whole text that a source or a user has given, never with a part of it, so "CC BY
4.0, not to be passed on" is not "CC BY 4.0". What is not in the table forbids, because a right that
nobody has stated is nobody's: then the user says, by the exact text, that he has it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from gandb.core.errors import UsageError
from gandb.schema.tables import model
from gandb.tasks.data import EXTERNAL

_SHOWN = 5


class Terms(StrEnum):
    """What a licence lets one do with data."""

    OPEN = "open"
    NON_COMMERCIAL = "non-commercial"
    AGREED = "agreed"
    CLOSED = "closed"


@dataclass(frozen=True)
class Licence:
    """A licence that is known.

    Attributes:
        name: its short name, of SPDX where that has one.
        url: where its text is.
        terms: what it allows.
    """

    name: str
    url: str
    terms: Terms = Terms.OPEN


_CREATIVE = "https://creativecommons.org"
_VERSIONED = re.compile(
    r"(?:cc[ -]|creative commons )(?P<kind>by(?:-nc)?(?:-sa)?)[ -](?P<version>[1-4]\.0)"
)
_SPELLED = (
    (re.compile(r"\s+|_"), " "),
    (re.compile(r"\blicence\b"), "license"),
    (re.compile(r"^https?://(?:www\.)?"), ""),
    (re.compile(r"^creativecommons\.org/licenses/([a-z-]+)/([0-9.]+)(?:/(?:legalcode|deed\.en))?/?$"),
     r"cc \1 \2"),
    (re.compile(r"^creativecommons\.org/publicdomain/zero/1\.0(?:/(?:legalcode|deed\.en))?/?$"),
     "cc0 1.0"),
    (re.compile(r"\b(?:the|international|unported|generic|universal|public|license)\b"), ""),
    (re.compile(r"\bv(?=\d)"), ""),
    (re.compile(r"\battribution"), "by"),
    (re.compile(r"[ -]?non-?commercial"), "-nc"),
    (re.compile(r"[ -]?share-?alike"), "-sa"),
    (re.compile(r"[()]"), " "),
    (re.compile(r"\s+"), " "),
)  # fmt: skip

_KNOWN: dict[str, Licence] = {
    spelled: licence
    for spellings, licence in (
        (("cc0", "cc0 1.0", "cc0-1.0", "creative commons zero 1.0", "domain dedication"),
         Licence("CC0-1.0", f"{_CREATIVE}/publicdomain/zero/1.0/")),
        (("odbl", "odbl 1.0", "odbl-1.0", "open database 1.0", "open database",
          "open database odbl 1.0"),
         Licence("ODbL-1.0", "https://opendatacommons.org/licenses/odbl/1-0/")),
        (("odc-by", "odc-by 1.0", "odc-by-1.0", "open data commons by 1.0"),
         Licence("ODC-By-1.0", "https://opendatacommons.org/licenses/by/1-0/")),
        (("pddl", "pddl 1.0", "pddl-1.0"),
         Licence("PDDL-1.0", "https://opendatacommons.org/licenses/pddl/1-0/")),
        (("mit", "mit/expat", "expat"), Licence("MIT", "https://spdx.org/licenses/MIT.html")),
        (("apache 2.0", "apache-2.0", "apache 2", "apache version 2.0", "apache, version 2.0"),
         Licence("Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0")),
        (("bsd-2-clause", "bsd 2-clause"),
         Licence("BSD-2-Clause", "https://spdx.org/licenses/BSD-2-Clause.html")),
        (("bsd-3-clause", "bsd 3-clause"),
         Licence("BSD-3-Clause", "https://spdx.org/licenses/BSD-3-Clause.html")),
        (("isc",), Licence("ISC", "https://spdx.org/licenses/ISC.html")),
        (("lgpl-2.1", "lgpl 2.1", "lgpl-2.1-or-later", "lgpl-2.1-only"),
         Licence("LGPL-2.1", "https://spdx.org/licenses/LGPL-2.1-or-later.html")),
        (("lgpl-3.0", "lgpl 3.0", "lgpl-3.0-or-later", "lgpl-3.0-only"),
         Licence("LGPL-3.0", "https://spdx.org/licenses/LGPL-3.0-or-later.html")),
        (("gpl-3.0", "gpl 3.0", "gpl-3.0-or-later", "gpl-3.0-only"),
         Licence("GPL-3.0", "https://spdx.org/licenses/GPL-3.0-or-later.html")),
        (("aflow terms of use: free for scientific, academic and non-commercial purposes",
          "aflow terms of use", "free for scientific and non-commercial use"),
         Licence("AFLOW terms of use", "https://aflow.org", Terms.NON_COMMERCIAL)),
    )
    for spelled in spellings
}  # fmt: skip


def known_licence(text: str) -> Licence | None:
    """Return the licence that a text names, or None if it is none of which gandb knows the terms.

    Args:
        text: as the source or the user gives it: a name in usual spelling, or its URL.
    """
    plain = text.strip().casefold()
    if found := _KNOWN.get(plain):
        return found
    for pattern, by in _SPELLED:
        plain = pattern.sub(by, plain)
    plain = plain.strip(" .")
    if found := _KNOWN.get(plain):
        return found
    match = _VERSIONED.fullmatch(plain)
    if match is None:
        return None
    kind, version = match["kind"], match["version"]
    return Licence(
        f"CC-{kind.upper()}-{version}",
        f"{_CREATIVE}/licenses/{kind}/{version}/",
        Terms.NON_COMMERCIAL if "nc" in kind else Terms.OPEN,
    )


# --- of what is packed -------------------------------------------------------------------


@dataclass(frozen=True)
class Notice:
    """Under which terms a part of a bundle came, and whom to cite for it.

    Attributes:
        source: database, collection or external model.
        licence: its terms, as they were stated.
        attribution: whom to cite.
        snapshots: ids of the imports.
        entries: how many of the packed records are from it.
        terms: what gandb takes the licence to allow.
        url: where the text of the licence is; None if it is not known.
        of: what is counted: entries, or candidates of an external model.
    """

    source: str
    licence: str
    attribution: str
    snapshots: tuple[str, ...]
    entries: int
    terms: Terms
    url: str | None
    of: str = "entries"

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "source": self.source,
            "licence": self.licence,
            "attribution": self.attribution,
            "snapshots": list(self.snapshots),
            self.of: self.entries,
            "terms": self.terms.value,
            "url": self.url,
        }


def notices(connection: sa.Connection, entries: str, allowed: Collection[str] = ()) -> list[Notice]:
    """Return the terms of entries, one for each source, licence and attribution; sorted.

    Args:
        connection: an open transaction.
        entries: SQL of gandb's own that selects entry ids.
        allowed: texts of licences that the user says he may hand data on under.
    """
    of_packed = (
        "FROM source_snapshot AS s JOIN snapshot_entry AS x ON x.snapshot_id = s.id "
        f"WHERE x.entry_id IN ({entries})"
    )
    snapshots: dict[tuple[str, str, str], set[str]] = {}
    for *key, own in connection.exec_driver_sql(
        f"SELECT DISTINCT s.source, s.licence, s.attribution, CAST(s.id AS TEXT) {of_packed}"
    ):
        snapshots.setdefault((key[0], key[1], key[2]), set()).add(own)
    rows = connection.exec_driver_sql(
        f"SELECT s.source, s.licence, s.attribution, count(DISTINCT x.entry_id) {of_packed} "
        "GROUP BY s.source, s.licence, s.attribution"
    ).fetchall()
    counts = {(source, licence, said): count for source, licence, said, count in rows}
    return [
        _notice(key, tuple(sorted(snapshots[key])), counts[key], allowed) for key in sorted(counts)
    ]


def model_notices(
    connection: sa.Connection, candidates: str, allowed: Collection[str] = ()
) -> list[Notice]:
    """Return the terms of candidates that came as files of other models, where they are stated.

    Args:
        connection: an open transaction.
        candidates: SQL of gandb's own that selects candidate ids.
        allowed: as for `notices`.
    """
    counts = connection.exec_driver_sql(
        "SELECT CAST(k.model_id AS TEXT), count(*) FROM candidate AS g "
        "JOIN checkpoint AS k ON k.id = g.checkpoint_id "
        f"WHERE g.id IN ({candidates}) GROUP BY k.model_id"
    ).fetchall()
    entries = {str(model_id): int(count) for model_id, count in counts}
    found = []
    for row in connection.execute(sa.select(model).where(model.c.role == EXTERNAL)).mappings():
        origin = row["config"].get("origin") or {}
        licence = next((origin[k] for k in ("licence", "license") if origin.get(k)), None)
        if licence is None or str(row["id"]) not in entries:
            continue
        attribution = str(origin.get("attribution") or origin.get("paper") or "")
        key = (row["name"], str(licence), attribution)
        one = _notice(key, (str(row["id"]),), entries[str(row["id"])], allowed)
        found.append(replace(one, of="candidates"))
    return sorted(found, key=lambda n: (n.source, n.licence, n.snapshots))


def _notice(
    key: tuple[str, str, str], snapshots: tuple[str, ...], entries: int, allowed: Collection[str]
) -> Notice:
    source, licence, attribution = key
    known = known_licence(licence)
    terms = known.terms if known else Terms.AGREED if licence in allowed else Terms.CLOSED
    return Notice(
        source, licence, attribution, snapshots, entries, terms, known.url if known else None
    )


def require_allowed(found: Sequence[Notice], refused: str, otherwise: str) -> None:
    """Refuse to hand on what the terms of its source do not allow.

    Args:
        found: the terms of what is to be handed on.
        refused: what is not done then, such as ``not packed``.
        otherwise: what else one can do.

    Raises:
        UsageError: names the sources, their terms, and what can be done.
    """
    closed = [n for n in found if n.terms is Terms.CLOSED]
    if not closed:
        return
    listed = "; ".join(
        f"{n.entries:,} {n.of} of {n.source} ({', '.join(s[:8] for s in n.snapshots)}) "
        f"under {n.licence!r}"
        for n in closed[:_SHOWN]
    )
    allow = closed[0].licence
    more = f" and {len(closed) - _SHOWN} more" if len(closed) > _SHOWN else ""
    raise UsageError(
        f"{refused}: {listed}{more}. These terms forbid handing the data on, or gandb does not "
        f"know them. {otherwise}; or, if you have the right, say so by the exact text: "
        f"--allow-licence {allow!r}"
    )


def as_markdown(found: Iterable[Notice], origin: str, own: str | None) -> str:
    """Write ``LICENCES.md``: the terms and attributions of everything in a bundle."""
    lines = [f"# Licences of what {origin} shares here", ""]
    lines += [
        "What was made by the group itself (selection, models, candidates, checks): "
        + (own or f"no licence is stated; ask {origin}")
        + ".",
        "",
    ]
    for notice in found:
        lines += [f"## {notice.source}: {notice.entries:,} {notice.of}", ""]
        lines += [f"- Licence: {_one_line(notice.licence) or 'not stated'}"]
        if notice.url:
            lines += [f"- Text: {notice.url}"]
        lines += [f"- Cite: {_one_line(notice.attribution) or 'not stated'}"]
        if notice.of == "entries":
            lines += [f"- Imports: {', '.join(notice.snapshots)}"]
        if notice.terms is Terms.NON_COMMERCIAL:
            lines += ["- **Not for commercial use.**"]
        if notice.terms is Terms.AGREED:
            lines += [f"- **{origin} states that it may hand this on. Ask before you do so.**"]
        lines += [""]
    return "\n".join(lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())

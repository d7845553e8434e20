"""What a bundle says of itself, in the same words in all its documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gandb.sharing.bundles.bundle import BundleTable
from gandb.sharing.licences import Notice

UNDATED = "1980-01-01"
"""The date of a bundle of which none is stated: equal content has equal bytes on every day."""
_NAMED = ("entry", "structure", "candidate", "checkpoint", "dataset_version")
_WORDS = {
    "entry": ("record", "records"),
    "structure": ("crystal structure", "crystal structures"),
    "candidate": ("generated candidate", "generated candidates"),
    "checkpoint": ("trained model", "trained models"),
    "dataset_version": ("dataset version", "dataset versions"),
}


@dataclass(frozen=True)
class Description:
    """What there is to say of a bundle.

    Attributes:
        origin: the group that packs it.
        origin_url: its web address; None if it states none.
        selection: what was asked to be packed.
        files: every table and blob: its size, SHA-256, and rows of a table.
        notices: terms and attributions of its sources.
        own_licence: terms of what the group made itself; None if it states none.
        published: the date that it states, ``YYYY-MM-DD``.
        datasets: names of the dataset versions.
        jobs: the jobs that made models and candidates, see `gandb.sharing.bundles.rocrate`.
    """

    origin: str
    origin_url: str | None
    selection: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]
    notices: Sequence[Notice]
    own_licence: str | None
    published: str
    datasets: Sequence[str]
    jobs: Sequence[Mapping[str, Any]]

    @property
    def name(self) -> str:
        """A short name."""
        named = [d.partition("/")[2] for d in self.datasets if d.startswith(f"{self.origin}/")]
        shown = ", ".join(named[:3]) + (" and more" if len(named) > 3 else "")
        return f"{self.origin}: {shown}" if shown else f"{self.origin}: materials"

    @property
    def text(self) -> str:
        """What is in it, in one paragraph."""
        counts = {n: int(self.files[f"tables/{n}.parquet"]["rows"]) for n in _NAMED}
        parts = [f"{n:,} {_WORDS[k][n != 1]}" for k, n in counts.items() if n]
        sources = sorted({n.source for n in self.notices})
        return (
            f"Inorganic materials shared by {self.origin}: {', '.join(parts) or 'no rows'}"
            + (f", from {', '.join(sources)}" if sources else "")
            + ". Rows refer to each other by content ids. Made with gandb."
        )

    @property
    def citation(self) -> str:
        """Whom to cite for it."""
        said = list(dict.fromkeys(" ".join(n.attribution.split()) for n in self.notices))
        return " ".join([f"{self.origin}, {self.name}.", *(s for s in said if s)])

    @property
    def licences(self) -> list[str]:
        """Licences of what is in it: addresses of their texts where known, else what was stated."""
        own = [self.own_licence] if self.own_licence else []
        said = [n.url or n.licence or "not stated" for n in self.notices] + own
        return sorted(set(said)) or [f"not stated; ask {self.origin}"]

    @property
    def keywords(self) -> tuple[str, ...]:
        """What it is about."""
        return ("crystal structure", "generative model", "inorganic materials")

    @property
    def url(self) -> str:
        """A name that no other bundle has: it is taken from its tables."""
        from gandb.core.ids import canonical_json, sha256_hex

        content = {name: facts["sha256"] for name, facts in self.files.items()}
        return f"https://gandb.invalid/bundle/{sha256_hex(canonical_json(content))[:32]}"

    @property
    def version(self) -> str:
        """Bundles have no versions of their own: other content is another bundle."""
        return "1.0.0"

    def rows(self, table: BundleTable) -> int:
        """Return the number of rows of a table."""
        return int(self.files[table.path]["rows"])

    def size(self, table: BundleTable) -> int:
        """Return the size of a table's file in bytes."""
        return int(self.files[table.path]["size"])

    def sha256(self, table: BundleTable) -> str:
        """Return the SHA-256 of a table's file."""
        return str(self.files[table.path]["sha256"])

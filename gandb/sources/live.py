"""Sources that are asked over the network, by the name that ``--live`` takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

from gandb.core.errors import NotFoundError
from gandb.sources import live_aflow, live_mp, live_optimade, live_oqmd
from gandb.sources.http import Key, Session
from gandb.sources.paging import Page, Query

__all__ = ["LIVE", "LiveSource", "Page", "Pages", "Query", "live_source"]


class Pages(Protocol):
    """Yields the pages of a query, see `gandb.sources.paging.walk`."""

    def __call__(
        self,
        query: Query,
        session: Session,
        start: str | None = None,
        number: int = 0,
        seen: Iterable[str] | None = None,
    ) -> Iterator[Page]:
        """Yield pages."""
        ...


@dataclass(frozen=True)
class LiveSource:
    """A source that is asked over the network.

    Attributes:
        name: what the command line calls it.
        title: its full name.
        endpoint: base URL that is asked if the user names no other; None if one must be named.
        format: name of the format whose reader parses a page's data.
        pages: yields pages.
        ids: gives what tells the records of a page's data from others, for ``pages(seen=...)``.
        page_size: records per page that the server gives.
        fields: asked for if the user names none; empty for what the source gives by itself.
        example: a filter in the source's language.
        key: the secret it wants.
    """

    name: str
    title: str
    endpoint: str | None
    format: str
    pages: Pages
    ids: Callable[[bytes], list[str]]
    page_size: int
    fields: tuple[str, ...]
    example: str
    key: Key | None = None


_MP_FIELDS = (
    "material_id formula_pretty nsites structure symmetry volume density energy_per_atom "
    "uncorrected_energy_per_atom formation_energy_per_atom energy_above_hull is_stable band_gap "
    "is_gap_direct is_metal ordering total_magnetization bulk_modulus shear_modulus "
    "universal_anisotropy homogeneous_poisson theoretical deprecated database_IDs task_ids "
    "last_updated"
)
_AFLOW_FIELDS = (
    "auid aurl compound species composition geometry positions_fractional natoms "
    "spacegroup_relax Pearson_symbol_relax energy_cell energy_atom enthalpy_formation_atom "
    "volume_cell volume_atom density Egap Egap_type spin_atom dft_type catalog aflowlib_date "
    "ael_bulk_modulus_vrh ael_shear_modulus_vrh ael_debye_temperature "
    "agl_thermal_conductivity_300K agl_thermal_expansion_300K"
)


def _source(
    module: ModuleType,
    kind: str,
    name: str,
    title: str,
    endpoint: str | None,
    page_size: int,
    example: str,
    fields: str = "",
    key: Key | None = None,
) -> LiveSource:
    return LiveSource(
        name,
        title,
        endpoint,
        kind,
        module.pages,
        module.ids,
        page_size,
        tuple(fields.split()),
        example,
        key,
    )


_PROVIDERS = (
    ("oqmd-optimade", "OQMD by OPTIMADE", "https://oqmd.org/optimade", 200),
    ("mp-optimade", "Materials Project by OPTIMADE", "https://optimade.materialsproject.org", 500),
    ("aflow-optimade", "AFLOW by OPTIMADE", "https://aflow.org/API/optimade", 10),
    ("nomad", "NOMAD", "https://nomad-lab.eu/prod/v1/optimade", 500),
    ("jarvis", "JARVIS-DFT", "https://jarvis.nist.gov/optimade/jarvisdft", 10),
    ("alexandria", "Alexandria, PBE", "https://alexandria.icams.rub.de/pbe", 100),
    ("alexandria-pbesol", "Alexandria, PBEsol", "https://alexandria.icams.rub.de/pbesol", 100),
    ("cod", "Crystallography Open Database", "https://www.crystallography.net/cod/optimade", 100),
    (
        "tcod",
        "Theoretical Crystallography Open Database",
        "https://www.crystallography.net/tcod/optimade",
        100,
    ),
    ("odbx", "Open Database of Xtals", "https://optimade.odbx.science", 500),
    ("odbx-gnome", "GNoME, served by odbx", "https://optimade-gnome.odbx.science", 100),
    (
        "mc3d",
        "Materials Cloud 3D structures, PBEsol",
        "https://optimade.materialscloud.org/main/mc3d-pbesol-v2",
        100,
    ),
    (
        "mc2d",
        "Materials Cloud 2D structures",
        "https://optimade.materialscloud.org/main/mc2d",
        100,
    ),
    ("cmr", "Computational Materials Repository", "https://cmr-optimade.fysik.dtu.dk", 100),
    ("matterverse", "Matterverse", "https://optimade.matterverse.ai", 100),
    ("mpds", "Materials Platform for Data Science", "https://api.mpds.io", 100),
    ("optimade", "any OPTIMADE provider", None, 100),
)
"""OPTIMADE providers: name, title, base URL, page size.

Addresses: the federation's list of providers, https://providers.optimade.org (repository
Materials-Consortia/providers, ``src/index-metadbs/*/v1/links.json`` of 2026-02-27); odbx,
odbx-gnome, mc3d and mc2d as public clients name them. Page sizes: what the providers were found to
allow by the OPTIMADE client 2.1.0 of npm (its ``prefetched.json``); 100 where it says nothing.
"""

_ELEMENTS = 'elements HAS ALL "Li","O" AND nelements<=3'

LIVE: dict[str, LiveSource] = {
    source.name: source
    for source in (
        _source(
            live_oqmd,
            "oqmd-rest",
            "oqmd",
            "Open Quantum Materials Database",
            "https://oqmd.org/oqmdapi",
            200,
            "element_set=(Fe-Mn),O AND stability<=0",
        ),
        _source(
            live_mp,
            "mp-summary",
            "mp",
            "Materials Project",
            "https://api.materialsproject.org",
            500,
            "elements=Li,O&energy_above_hull=0..0.05",
            _MP_FIELDS,
            live_mp.KEY,
        ),
        _source(
            live_aflow,
            "aflux",
            "aflow",
            "AFLOW",
            "https://aflow.org/API/aflux",
            500,
            "species(Na:K,Cl),nspecies(2),catalog(ICSD)",
            _AFLOW_FIELDS,
        ),
        *(
            _source(live_optimade, "optimade", name, title, endpoint, size, _ELEMENTS)
            for name, title, endpoint, size in _PROVIDERS
        ),
    )
}
"""Every live source by name."""


def live_source(name: str) -> LiveSource:
    """Return the live source of this name.

    Raises:
        NotFoundError: there is none; names those there are.
    """
    try:
        return LIVE[name]
    except KeyError:
        raise NotFoundError.naming("live source", name, LIVE) from None

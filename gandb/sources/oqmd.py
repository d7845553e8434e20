"""OQMD: columns of its REST API and exports, its terms and its references."""

from __future__ import annotations

from gandb.sources.base import EXTERNAL_ID, FORMULA, Source

OQMD = Source(
    name="oqmd",
    title="Open Quantum Materials Database",
    url="https://oqmd.org",
    licence="CC BY 4.0",
    attribution=(
        "Data from the Open Quantum Materials Database (OQMD), https://oqmd.org, "
        "under the Creative Commons Attribution 4.0 licence."
    ),
    citations=(
        "J. E. Saal, S. Kirklin, M. Aykol, B. Meredig, C. Wolverton, JOM 65, 1501 (2013), "
        "doi:10.1007/s11837-013-0755-4",
        "S. Kirklin, J. E. Saal, B. Meredig, A. Thompson, J. W. Doak, M. Aykol, S. Rühl, "
        "C. Wolverton, npj Comput. Mater. 1, 15010 (2015), doi:10.1038/npjcompumats.2015.10",
    ),
    columns={
        "composition": FORMULA,
        "name": FORMULA,
        "entry_id": EXTERNAL_ID,
        "_oqmd_entry_id": EXTERNAL_ID,
        "delta_e": "formation_energy_per_atom:eV/atom",
        "_oqmd_delta_e": "formation_energy_per_atom:eV/atom",
        "energy_pa": "energy_per_atom:eV/atom",
        "stability": "energy_above_hull:eV/atom",
        "_oqmd_stability": "energy_above_hull:eV/atom",
        "band_gap": "band_gap:eV",
        "_oqmd_band_gap": "band_gap:eV",
        "volume_pa": "volume_per_atom:Å³/atom",
    },
    tables={
        "Bandgap": "band_gap:eV",
        "Energy_per_atom": "energy_per_atom:eV/atom",
        "Formation_Enthalpy": "formation_energy_per_atom:eV/atom",
        "Volume_per_atom": "volume_per_atom:Å³/atom",
    },
)

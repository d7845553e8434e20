"""The Materials Project: columns of its summary documents and exports, its terms, its reference."""

from __future__ import annotations

from gandb.sources.base import EXTERNAL_ID, FORMULA, Source

MP = Source(
    name="mp",
    title="Materials Project",
    url="https://materialsproject.org",
    licence="CC BY 4.0",
    attribution=(
        "Data from the Materials Project, https://materialsproject.org, "
        "under the Creative Commons Attribution 4.0 licence."
    ),
    citations=(
        "A. Jain, S. P. Ong, G. Hautier, W. Chen, W. D. Richards, S. Dacek, S. Cholia, D. Gunter, "
        "D. Skinner, G. Ceder, K. A. Persson, APL Mater. 1, 011002 (2013), doi:10.1063/1.4812323",
    ),
    columns={
        "formula_pretty": FORMULA,
        "pretty_formula": FORMULA,
        "full_formula": FORMULA,
        "material_id": EXTERNAL_ID,
        "formation_energy_per_atom": "formation_energy_per_atom:eV/atom",
        "energy_per_atom": "energy_per_atom:eV/atom",
        "energy_above_hull": "energy_above_hull:eV/atom",
        "e_above_hull": "energy_above_hull:eV/atom",
        "band_gap": "band_gap:eV",
        "bulk_modulus.vrh": "bulk_modulus:GPa",
        "elasticity.K_VRH": "bulk_modulus:GPa",
        "K_VRH": "bulk_modulus:GPa",
        "shear_modulus.vrh": "shear_modulus:GPa",
        "elasticity.G_VRH": "shear_modulus:GPa",
        "G_VRH": "shear_modulus:GPa",
        "universal_anisotropy": "elastic_anisotropy:1",
        "elasticity.elastic_anisotropy": "elastic_anisotropy:1",
        "total_magnetization_normalized_formula_units": "total_magnetization:μB",
    },
    tables={
        "band_gap": "band_gap:eV",
        "bulk_modulus": "bulk_modulus:GPa",
        "e_hull": "energy_above_hull:eV/atom",
        "elastic_anisotropy": "elastic_anisotropy:1",
        "formation_energy_per_atom": "formation_energy_per_atom:eV/atom",
        "mu_b": "total_magnetization:μB",
        "shear_modulus": "shear_modulus:GPa",
    },
)

"""AFLOW: columns of AFLUX, the REST API and AFLOW-CHULL, its terms and its references."""

from __future__ import annotations

from gandb.sources.base import EXTERNAL_ID, FORMULA, Layout, Source

AFLOW = Source(
    name="aflow",
    title="AFLOW",
    url="https://aflow.org",
    licence="AFLOW terms of use: free for scientific, academic and non-commercial purposes",
    attribution=(
        "Data from the AFLOW repositories, https://aflow.org, free for scientific, academic and "
        "non-commercial use; any use has to cite the AFLOW papers."
    ),
    citations=(
        "S. Curtarolo, W. Setyawan, S. Wang, J. Xue, K. Yang, R. H. Taylor, L. J. Nelson, "
        "G. L. W. Hart, S. Sanvito, M. Buongiorno-Nardelli, N. Mingo, O. Levy, "
        "Comput. Mater. Sci. 58, 227 (2012), doi:10.1016/j.commatsci.2012.02.002",
        "R. H. Taylor, F. Rose, C. Toher, O. Levy, K. Yang, M. Buongiorno Nardelli, S. Curtarolo, "
        "Comput. Mater. Sci. 93, 178 (2014), doi:10.1016/j.commatsci.2014.05.014",
        "C. Toher, C. Oses, J. J. Plata, D. Hicks, F. Rose, O. Levy, M. de Jong, M. Asta, "
        "M. Fornari, M. Buongiorno Nardelli, S. Curtarolo, Phys. Rev. Mater. 1, 015401 (2017), "
        "doi:10.1103/PhysRevMaterials.1.015401",
    ),
    columns={
        "compound": FORMULA,
        "auid": EXTERNAL_ID,
        "enthalpy_formation_atom": "formation_energy_per_atom:eV/atom",
        "energy_atom": "energy_per_atom:eV/atom",
        "Egap": "band_gap:eV",
        "volume_atom": "volume_per_atom:Å³/atom",
        "ael_bulk_modulus_vrh": "bulk_modulus:GPa",
        "ael_shear_modulus_vrh": "shear_modulus:GPa",
        "ael_elastic_anisotropy": "elastic_anisotropy:1",
        "ael_debye_temperature": "debye_temperature:K",
        "agl_thermal_conductivity_300K": "thermal_conductivity:W/(m K)",
        "agl_thermal_expansion_300K": "thermal_expansion:1/K",
        "spin_cell": "total_magnetization:μB",
    },
    tables={
        "Egap": "band_gap:eV",
        "ael_bulk_modulus_vrh": "bulk_modulus:GPa",
        "ael_debye_temperature": "debye_temperature:K",
        "ael_elastic_anisotropy": "elastic_anisotropy:1",
        "ael_shear_modulus_vrh": "shear_modulus:GPa",
        "agl_thermal_conductivity_300K": "thermal_conductivity:W/(m K)",
        "agl_thermal_expansion_300K": "thermal_expansion:1/K",
        "energy_atom": "energy_per_atom:eV/atom",
        "enthalpy_formation_atom": "formation_energy_per_atom:eV/atom",
    },
    missing=(1e12,),
    layouts=(
        # AFLOW-CHULL writes its enthalpies in meV/atom, unlike AFLUX.
        Layout(
            marker="distance_hull_enthalpy_formation_atom",
            columns={
                "enthalpy_formation_atom": "formation_energy_per_atom:meV/atom",
                "distance_hull_enthalpy_formation_atom": "energy_above_hull:meV/atom",
            },
        ),
    ),
)

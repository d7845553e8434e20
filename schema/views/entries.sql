-- One row per record of a source, with its composition and the verdicts on that.
SELECT
    e.id AS entry_id, -- = entry.id
    e.source, -- = entry.source
    e.external_id, -- = entry.external_id
    e.formula, -- = entry.formula
    e.formula_units, -- = entry.formula_units
    e.composition_id, -- = entry.composition_id
    c.reduced_formula, -- = composition.reduced_formula
    c.chemical_system, -- = composition.chemical_system
    c.anonymous_formula, -- = composition.anonymous_formula
    c.n_elements, -- = composition.n_elements
    c.n_atoms, -- = composition.n_atoms
    e.structure_id, -- = entry.structure_id
    e.n_sites, -- = entry.n_sites
    e.space_group_number, -- = entry.space_group_number
    e.formation_energy_per_atom, -- = entry.formation_energy_per_atom
    e.energy_per_atom, -- = entry.energy_per_atom
    e.energy_above_hull, -- = entry.energy_above_hull
    e.band_gap, -- = entry.band_gap
    e.volume_per_atom, -- = entry.volume_per_atom
    e.bulk_modulus, -- = entry.bulk_modulus
    e.shear_modulus, -- = entry.shear_modulus
    e.elastic_anisotropy, -- = entry.elastic_anisotropy
    e.debye_temperature, -- = entry.debye_temperature
    e.thermal_conductivity, -- = entry.thermal_conductivity
    e.thermal_expansion, -- = entry.thermal_expansion
    e.total_magnetization, -- = entry.total_magnetization
    c.cnen_strict, -- = composition.cnen_strict
    c.cnen_default, -- = composition.cnen_default
    c.cnen_matgan, -- = composition.cnen_matgan
    e.extra, -- = entry.extra
    c.elements -- = composition.elements
FROM entry AS e
JOIN composition AS c ON c.id = e.composition_id

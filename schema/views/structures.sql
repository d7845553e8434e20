-- One row per distinct crystal structure, with its composition and symmetry.
SELECT
    s.id AS structure_id, -- = structure.id
    s.composition_id, -- = structure.composition_id
    c.reduced_formula, -- = composition.reduced_formula
    c.chemical_system, -- = composition.chemical_system
    c.anonymous_formula, -- = composition.anonymous_formula
    c.n_elements, -- = composition.n_elements
    s.n_sites, -- = structure.n_sites
    s.ordered, -- = structure.ordered
    s.space_group_number, -- = structure.space_group_number
    s.space_group_symbol, -- = structure.space_group_symbol
    s.a, -- = structure.a
    s.b, -- = structure.b
    s.c, -- = structure.c
    s.alpha, -- = structure.alpha
    s.beta, -- = structure.beta
    s.gamma, -- = structure.gamma
    s.volume, -- = structure.volume
    s.charge, -- = structure.charge
    s.species, -- = structure.species
    s.frac_coords, -- = structure.frac_coords
    s.site_properties, -- = structure.site_properties
    c.elements -- = composition.elements
FROM structure AS s
JOIN composition AS c ON c.id = s.composition_id

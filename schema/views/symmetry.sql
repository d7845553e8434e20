-- One row per structure and symmetry search, failed ones included.
SELECT
    y.structure_id, -- = structure_symmetry.structure_id
    r.parameters, -- = recipe.parameters
    y.space_group_number, -- = structure_symmetry.space_group_number
    y.space_group_symbol, -- = structure_symmetry.space_group_symbol
    y.hall_number, -- = structure_symmetry.hall_number
    y.point_group, -- = structure_symmetry.point_group
    y.crystal_system, -- = structure_symmetry.crystal_system
    y.pearson_symbol, -- = structure_symmetry.pearson_symbol
    y.wyckoff_letters, -- = structure_symmetry.wyckoff_letters
    y.site_symmetries, -- = structure_symmetry.site_symmetries
    y.symprec, -- = structure_symmetry.symprec
    y.error, -- = structure_symmetry.error
    y.recipe_id -- = structure_symmetry.recipe_id
FROM structure_symmetry AS y
JOIN recipe AS r ON r.id = y.recipe_id

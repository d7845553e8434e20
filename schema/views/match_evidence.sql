-- One row per pair of structures that was compared under a recipe.
SELECT
    e.structure_a, -- = comparison.structure_a
    e.structure_b, -- = comparison.structure_b
    c.reduced_formula, -- = composition.reduced_formula
    e.matched, -- = comparison.matched
    e.forward, -- = comparison.forward
    e.backward, -- = comparison.backward
    e.rms, -- = comparison.rms
    e.max_distance, -- = comparison.max_distance
    e.amd_distance, -- = comparison.amd_distance
    e.method, -- = comparison.method
    r.parameters, -- = recipe.parameters
    e.recipe_id -- = comparison.recipe_id
FROM comparison AS e
JOIN recipe AS r ON r.id = e.recipe_id
JOIN structure AS s ON s.id = e.structure_a
JOIN composition AS c ON c.id = s.composition_id

-- One row per verdict of a check on a structure, with the number behind it.
SELECT
    x.structure_id, -- = structure_check.structure_id
    c.reduced_formula, -- = composition.reduced_formula
    r.check_name, -- = recipe.check_name
    r.version, -- = recipe.version
    x.passed, -- = structure_check.passed
    x.value, -- = structure_check.value
    x.reason, -- = structure_check.reason
    r.parameters, -- = recipe.parameters
    r.id AS recipe_id -- = recipe.id
FROM structure_check AS x
JOIN recipe AS r ON r.id = x.recipe_id
JOIN structure AS s ON s.id = x.structure_id
JOIN composition AS c ON c.id = s.composition_id

-- One row per verdict of a check on a composition.
SELECT
    c.id AS composition_id, -- = composition.id
    c.reduced_formula, -- = composition.reduced_formula
    r.check_name, -- = recipe.check_name
    r.version, -- = recipe.version
    x.passed, -- = check_result.passed
    x.reason, -- = check_result.reason
    r.parameters, -- = recipe.parameters
    r.id AS recipe_id -- = recipe.id
FROM check_result AS x
JOIN recipe AS r ON r.id = x.recipe_id
JOIN composition AS c ON c.id = x.subject_id

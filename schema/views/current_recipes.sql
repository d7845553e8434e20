-- One row per check: the recipe of its newest version, which generated_structures shows.
SELECT
    n.check_name, -- = recipe.check_name
    n.version, -- = recipe.version
    n.id AS recipe_id -- = recipe.id
FROM (
    SELECT DISTINCT ON (r.check_name) r.check_name, r.version, r.id
    FROM recipe AS r
    WHERE r.check_name <> 'symmetry' OR (
        (r.parameters ->> 'symprec_angstrom') = '0.1'
        AND (r.parameters ->> 'angle_tolerance_degrees') IS NULL
    )
    ORDER BY r.check_name, length(r.version) DESC, r.version DESC, r.id
) AS n

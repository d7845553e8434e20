-- One row per candidate and check of it, of its composition or of its structure, with the recipe.
SELECT
    x.candidate_id, -- = candidate.id
    g.reduced_formula, -- = candidate.reduced_formula
    r.check_name, -- = recipe.check_name
    r.version, -- = recipe.version
    x.passed, -- boolean | The verdict; null if it could not be made. | | gandb
    x.verdict, -- text | What was found, in a few words: a reason, a grade of novelty, a space group. | | gandb
    x.subject, -- text | What was checked: composition, structure or candidate. | | gandb
    r.parameters, -- = recipe.parameters
    x.recipe_id -- = recipe.id
FROM (
    SELECT
        c.id AS candidate_id,
        v.recipe_id,
        CASE WHEN q.check_name = 'cnen_matgan' THEN v.passed AND c.cnen_matgan ELSE v.passed END AS passed,
        CASE
            WHEN q.check_name = 'cnen_matgan' AND v.passed AND NOT c.cnen_matgan
                THEN 'generated as a multiple of its reduced formula'
            ELSE v.reason
        END AS verdict,
        'composition' AS subject
    FROM candidate AS c
    JOIN check_result AS v ON v.subject_id = c.composition_id
    JOIN recipe AS q ON q.id = v.recipe_id
    UNION ALL
    SELECT
        n.candidate_id,
        n.recipe_id,
        n.level > 0,
        coalesce((ARRAY['known', 'structure', 'prototype', 'substitution', 'composition'])[n.level + 1], n.error),
        'candidate'
    FROM candidate_novelty AS n
    UNION ALL
    SELECT
        c.id,
        y.recipe_id,
        y.error IS NULL,
        coalesce(y.error, y.space_group_symbol || ' (' || CAST(y.space_group_number AS TEXT) || ')'),
        'structure'
    FROM candidate AS c
    JOIN structure_symmetry AS y ON y.structure_id = c.structure_id
    UNION ALL
    SELECT c.id, k.recipe_id, k.passed, k.reason, 'structure'
    FROM candidate AS c
    JOIN structure_check AS k ON k.structure_id = c.structure_id
    UNION ALL
    SELECT
        c.id,
        l.recipe_id,
        l.converged,
        coalesce(l.error, CASE WHEN l.converged THEN 'relaxed' ELSE 'not converged' END),
        'structure'
    FROM candidate AS c
    JOIN relaxation AS l ON l.structure_id = c.structure_id
    UNION ALL
    SELECT
        c.id,
        h.recipe_id,
        h.energy_above_hull IS NOT NULL,
        coalesce(h.error, CAST(h.energy_above_hull AS TEXT) || ' eV/atom above the hull', 'no reference'),
        'structure'
    FROM candidate AS c
    JOIN stability AS h ON h.structure_id = c.structure_id
) AS x
JOIN candidate AS g ON g.id = x.candidate_id
JOIN recipe AS r ON r.id = x.recipe_id

-- One row per material: structures linked by matches under a recipe.
SELECT
    m.material_id, -- = material_member.material_id
    c.reduced_formula, -- = composition.reduced_formula
    c.chemical_system, -- = composition.chemical_system
    s.space_group_number, -- = structure.space_group_number
    m.n_structures, -- bigint | Structures of the material. | structures | gandb: count of material_member
    coalesce(e.n_compared, 0) AS n_compared, -- bigint | Pairs among them that were compared, or settled by a bound. | pairs | gandb: count of comparison
    coalesce(e.n_matched, 0) AS n_matched, -- bigint | Pairs among them that match. | pairs | gandb: count of comparison
    CASE WHEN m.n_structures = 1 THEN 'single' WHEN e.n_compared > e.n_matched THEN 'chain' WHEN 2 * e.n_matched = m.n_structures * (m.n_structures - 1) THEN 'clique' ELSE 'linked' END AS shape, -- text | single; clique: every pair matches; chain: some pair does not, others link it; linked: not every pair was compared. | | gandb
    m.standard, -- = material_member.standard
    m.recipe_id, -- = material_member.recipe_id
    c.elements -- = composition.elements
FROM (
    SELECT recipe_id, material_id, standard, count(*) AS n_structures
    FROM material_member
    GROUP BY recipe_id, material_id, standard
) AS m
JOIN structure AS s ON s.id = m.material_id
JOIN composition AS c ON c.id = s.composition_id
LEFT JOIN (
    SELECT
        a.recipe_id,
        a.material_id,
        count(*) AS n_compared,
        count(CASE WHEN x.matched THEN 1 END) AS n_matched
    FROM comparison AS x
    JOIN material_member AS a ON a.recipe_id = x.recipe_id AND a.structure_id = x.structure_a
    JOIN material_member AS b ON b.recipe_id = x.recipe_id AND b.structure_id = x.structure_b
    WHERE a.material_id = b.material_id
    GROUP BY a.recipe_id, a.material_id
) AS e ON e.recipe_id = m.recipe_id AND e.material_id = m.material_id

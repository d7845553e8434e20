-- One row per distinct candidate, with its checks and novelty spread into columns.
SELECT
    g.id AS candidate_id, -- = candidate.id
    g.composition_id, -- = candidate.composition_id
    g.reduced_formula, -- = candidate.reduced_formula
    g.chemical_system, -- = candidate.chemical_system
    g.anonymous_formula, -- = candidate.anonymous_formula
    g.n_elements, -- = candidate.n_elements
    g.n_atoms, -- = candidate.n_atoms
    g.structure_id, -- = candidate.structure_id
    g.n_sites, -- = candidate.n_sites
    g.space_group_number, -- = candidate.space_group_number
    k.model, -- = model.name
    k.role, -- = model.role
    k.dataset, -- = datasets.dataset
    k.seed AS training_seed, -- = checkpoint.seed
    g.times_generated, -- = candidate.times_generated
    g.cnen_strict, -- = candidate.cnen_strict
    g.cnen_default, -- = candidate.cnen_default
    g.cnen_matgan, -- = candidate.cnen_matgan
    g.novel, -- = candidate.novel
    (ARRAY['known', 'structure', 'prototype', 'substitution', 'composition'])[n.level + 1] AS novelty, -- text | What is new in its structure: the least of all that it was compared with, see the view novelty for each; null if it was compared with none. | | gandb: least of candidate_novelty
    n.reference AS novelty_against, -- = novelty_references.reference
    m.material_id, -- = material_member.material_id
    g.checkpoint_id, -- = candidate.checkpoint_id
    g.elements -- = candidate.elements
FROM candidate AS g
JOIN checkpoints AS k ON k.checkpoint_id = g.checkpoint_id
LEFT JOIN (
    SELECT DISTINCT ON (l.candidate_id) l.candidate_id, l.level, w.reference
    FROM candidate_novelty AS l
    LEFT JOIN novelty_references AS w ON w.recipe_id = l.recipe_id
    ORDER BY l.candidate_id, l.level, w.reference
) AS n ON n.candidate_id = g.id
LEFT JOIN material_member AS m ON m.structure_id = g.structure_id AND m.standard

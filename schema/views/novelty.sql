-- One row per candidate with a structure and reference that it was compared with.
SELECT
    n.candidate_id, -- = candidate_novelty.candidate_id
    g.structure_id, -- = candidate.structure_id
    g.reduced_formula, -- = candidate.reduced_formula
    k.model, -- = model.name
    (ARRAY['known', 'structure', 'prototype', 'substitution', 'composition'])[n.level + 1] AS grade, -- text | known; or what is new: the structure (the composition is known), the prototype (so is the composition, and no symmetry of it is like this), substitution (the composition is new, the structure known with other elements), the composition. | | gandb
    w.reference, -- = novelty_references.reference
    n.level, -- = candidate_novelty.level
    n.n_compared, -- = candidate_novelty.n_compared
    n.reference_structure_id, -- = candidate_novelty.reference_structure_id
    n.representative_id, -- = candidate_novelty.representative_id
    n.rms, -- = candidate_novelty.rms
    n.error, -- = candidate_novelty.error
    r.parameters, -- = recipe.parameters
    n.recipe_id -- = candidate_novelty.recipe_id
FROM candidate_novelty AS n
JOIN candidate AS g ON g.id = n.candidate_id
JOIN checkpoints AS k ON k.checkpoint_id = g.checkpoint_id
JOIN recipe AS r ON r.id = n.recipe_id
LEFT JOIN novelty_references AS w ON w.recipe_id = n.recipe_id

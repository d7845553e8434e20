-- One row per candidate with a structure: what was asked for, checks by their newest recipes, and novelty, relaxation and stability as its checkpoint was judged last.
SELECT
    g.id AS candidate_id, -- = candidate.id
    g.structure_id, -- = candidate.structure_id
    g.composition_id, -- = candidate.composition_id
    g.reduced_formula, -- = candidate.reduced_formula
    g.chemical_system, -- = candidate.chemical_system
    g.anonymous_formula, -- = candidate.anonymous_formula
    g.n_elements, -- = candidate.n_elements
    g.n_sites, -- = candidate.n_sites
    k.model, -- = model.name
    k.role, -- = model.role
    k.dataset, -- = datasets.dataset
    k.seed AS training_seed, -- = checkpoint.seed
    g.times_generated, -- = candidate.times_generated
    g.cnen_strict, -- = candidate.cnen_strict
    g.cnen_default, -- = candidate.cnen_default
    e.requested_formula, -- = generation_event.requested_formula
    e.requested_space_group, -- = generation_event.requested_space_group
    g.space_group_number, -- = candidate.space_group_number
    y.space_group_number AS space_group_number_loose, -- = structure_symmetry.space_group_number
    y.space_group_number = e.requested_space_group AS space_group_found, -- boolean | The space group that was asked for was found at 0.1 Å; null if none was asked for. | | gandb
    c1.passed AS structural_validity, -- boolean | No two atoms, images of an atom included, closer than 0.5 Å, and a volume of at least 0.1 Å³. | | gandb: structure_check
    c2.passed AS structural_validity_published, -- boolean | The same without images of an atom, as published. | | gandb: structure_check
    c3.passed AS radius_distances, -- boolean | No two atoms closer than a share of the sum of their radii. | | gandb: structure_check
    c4.passed AS radius_distances_atomic, -- boolean | The same by atomic radii. | | gandb: structure_check
    c5.passed AS bond_valence_balance, -- boolean | Charges by bond valences balance. | | gandb: structure_check
    c6.value AS density, -- double | Density in g/cm³. | of the check | gandb: structure_check
    c7.value AS volume_per_atom, -- double | Volume per atom. | Å³/atom | gandb: structure_check
    c8.value AS coordination, -- double | Mean number of neighbours. | 1 | gandb: structure_check
    (ARRAY['known', 'structure', 'prototype', 'substitution', 'composition'])[n.level + 1] AS novelty, -- text | What is new in its structure, see the view novelty; null if it was not judged. | | gandb: candidate_novelty
    n.representative_id = g.structure_id AS is_representative, -- boolean | It is the one that stands for all candidates that are the same as it. | | gandb: candidate_novelty
    n.representative_id, -- = candidate_novelty.representative_id
    x.relaxed_id, -- = relaxation.relaxed_id
    x.energy_per_atom AS relaxed_energy_per_atom, -- = relaxation.energy_per_atom
    x.max_force, -- = relaxation.max_force
    x.n_steps, -- = relaxation.n_steps
    x.converged, -- = relaxation.converged
    x.rmsd, -- = relaxation.rmsd
    x.volume_change, -- = relaxation.volume_change
    x.error AS relaxation_error, -- = relaxation.error
    (ARRAY['known', 'structure', 'prototype', 'substitution', 'composition'])[z.level + 1] AS relaxed_novelty, -- text | What is new in the relaxed structure; null if it was not judged. | | gandb: candidate_novelty
    z.representative_id = g.structure_id AS relaxed_is_representative, -- boolean | It stands for all candidates that relax into the same structure. | | gandb: candidate_novelty
    s.formation_energy_per_atom, -- = stability.formation_energy_per_atom
    s.energy_above_hull, -- = stability.energy_above_hull
    s.decomposition, -- = stability.decomposition
    s.missing AS missing_references, -- = stability.missing
    s.error AS stability_error, -- = stability.error
    s.structure_id IS NOT NULL AS stability_judged, -- boolean | It was judged against the hull, be it that references were missing. | | gandb
    ln.recipe_id AS novelty_recipe_id, -- = recipe.id
    rz.id AS relaxed_novelty_recipe_id, -- = recipe.id
    lx.recipe_id AS relaxation_recipe_id, -- = recipe.id
    ls.recipe_id AS stability_recipe_id, -- = recipe.id
    g.checkpoint_id, -- = candidate.checkpoint_id
    g.elements -- = candidate.elements
FROM candidate AS g
JOIN checkpoints AS k ON k.checkpoint_id = g.checkpoint_id
LEFT JOIN (
    SELECT DISTINCT ON (o.candidate_id)
        o.candidate_id, o.requested_formula, o.requested_space_group
    FROM generation_event AS o
    ORDER BY o.candidate_id, o.first_index, o.job_id, o.chunk, o.formula_units
) AS e ON e.candidate_id = g.id
LEFT JOIN structure_symmetry AS y ON y.structure_id = g.structure_id
    AND y.recipe_id = (SELECT recipe_id FROM current_recipes WHERE check_name = 'symmetry')
LEFT JOIN structure_check AS c1 ON c1.structure_id = g.structure_id
    AND c1.recipe_id = (SELECT recipe_id FROM current_recipes WHERE check_name = 'structural_validity')
LEFT JOIN structure_check AS c2 ON c2.structure_id = g.structure_id
    AND c2.recipe_id = (SELECT recipe_id FROM current_recipes WHERE check_name = 'structural_validity_published')
LEFT JOIN structure_check AS c3 ON c3.structure_id = g.structure_id
    AND c3.recipe_id = (SELECT recipe_id FROM current_recipes WHERE check_name = 'radius_distances')
LEFT JOIN structure_check AS c4 ON c4.structure_id = g.structure_id
    AND c4.recipe_id = (SELECT recipe_id FROM current_recipes WHERE check_name = 'radius_distances_atomic')
LEFT JOIN structure_check AS c5 ON c5.structure_id = g.structure_id
    AND c5.recipe_id = (SELECT recipe_id FROM current_recipes WHERE check_name = 'bond_valence_balance')
LEFT JOIN structure_check AS c6 ON c6.structure_id = g.structure_id
    AND c6.recipe_id = (SELECT recipe_id FROM current_recipes WHERE check_name = 'density')
LEFT JOIN structure_check AS c7 ON c7.structure_id = g.structure_id
    AND c7.recipe_id = (SELECT recipe_id FROM current_recipes WHERE check_name = 'volume_per_atom')
LEFT JOIN structure_check AS c8 ON c8.structure_id = g.structure_id
    AND c8.recipe_id = (SELECT recipe_id FROM current_recipes WHERE check_name = 'coordination')
LEFT JOIN latest_judgements AS ln ON ln.checkpoint_id = g.checkpoint_id AND ln.kind = 'novelty'
LEFT JOIN candidate_novelty AS n ON n.candidate_id = g.id AND n.recipe_id = ln.recipe_id
LEFT JOIN latest_judgements AS lx ON lx.checkpoint_id = g.checkpoint_id AND lx.kind = 'relaxation'
LEFT JOIN relaxation AS x ON x.structure_id = g.structure_id AND x.recipe_id = lx.recipe_id
LEFT JOIN latest_judgements AS lz ON lz.checkpoint_id = g.checkpoint_id
    AND lz.kind = 'relaxed_novelty'
LEFT JOIN recipe AS rz ON rz.id = lz.recipe_id
    AND (rz.parameters ->> 'relaxation') = CAST(lx.recipe_id AS TEXT)
LEFT JOIN candidate_novelty AS z ON z.candidate_id = g.id AND z.recipe_id = rz.id
LEFT JOIN latest_judgements AS ls ON ls.checkpoint_id = g.checkpoint_id AND ls.kind = 'stability'
LEFT JOIN stability AS s ON s.structure_id = g.structure_id AND s.recipe_id = ls.recipe_id
WHERE g.structure_id IS NOT NULL

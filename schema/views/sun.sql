-- One row per candidate with a structure: whether it is valid, unique, novel and stable, as its checkpoint was judged last.
SELECT
    v.candidate_id, -- = candidate.id
    v.structure_id, -- = candidate.structure_id
    v.relaxed_id, -- = relaxation.relaxed_id
    v.reduced_formula, -- = candidate.reduced_formula
    v.model, -- = model.name
    v.dataset, -- = datasets.dataset
    v.times_generated, -- = candidate.times_generated
    v.structural_validity AS valid, -- boolean | It passes structural_validity; null if that was not checked. | | gandb: structure_check
    v.is_representative AND COALESCE(v.relaxed_is_representative, TRUE) AS is_unique, -- boolean | It stands for all candidates that are the same as it, as generated and, where that was judged, relaxed. | | gandb: candidate_novelty
    v.novelty <> 'known' AND COALESCE(v.relaxed_novelty, '') <> 'known' AS is_novel, -- boolean | No structure of the reference matches it, as generated and, where that was judged, relaxed. | | gandb: candidate_novelty
    v.energy_above_hull, -- = stability.energy_above_hull
    CASE WHEN v.stability_judged THEN COALESCE(v.converged AND v.energy_above_hull <= 0, FALSE) END AS stable_0, -- boolean | It converged to 0 eV/atom above the hull or lower; null if it was not judged. | | gandb: stability
    CASE WHEN v.stability_judged THEN COALESCE(v.converged AND v.energy_above_hull <= 0.1, FALSE) END AS stable_01, -- boolean | It converged to 0.1 eV/atom above the hull or lower; null if it was not judged. | | gandb: stability
    v.structural_validity AND v.is_representative AND v.novelty <> 'known' AND COALESCE(v.relaxed_is_representative, TRUE) AND COALESCE(v.relaxed_novelty, '') <> 'known' AND CASE WHEN v.stability_judged THEN COALESCE(v.converged AND v.energy_above_hull <= 0, FALSE) END AS s_u_n_0, -- boolean | Valid, unique, novel, and stable at 0 eV/atom. | | gandb
    v.structural_validity AND v.is_representative AND v.novelty <> 'known' AND COALESCE(v.relaxed_is_representative, TRUE) AND COALESCE(v.relaxed_novelty, '') <> 'known' AND CASE WHEN v.stability_judged THEN COALESCE(v.converged AND v.energy_above_hull <= 0.1, FALSE) END AS s_u_n_01, -- boolean | Valid, unique, novel, and stable at 0.1 eV/atom. | | gandb
    v.novelty_recipe_id, -- = recipe.id
    v.relaxed_novelty_recipe_id, -- = recipe.id
    v.relaxation_recipe_id, -- = recipe.id
    v.stability_recipe_id, -- = recipe.id
    v.checkpoint_id -- = candidate.checkpoint_id
FROM generated_structures AS v

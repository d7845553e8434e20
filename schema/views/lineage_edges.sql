-- One row per step of descent: the subject came of, or rests on, the object. Ask for one subject_id
-- or object_id at a time, with its kind, and only the tables of that kind are looked at.
SELECT
    e.subject_kind, -- text | candidate, job, checkpoint, dataset_version, entry, source_snapshot, structure, composition or recipe. | | gandb
    e.subject_id, -- uuid | What came of it. | | gandb
    e.relation, -- text | generated_by, sampled_from, trained_by, brought_by, trained_on, instance_of, used, derived_from, holds, read_from, imported_by, has_structure, has_composition, has_material, relaxed_from, checked_under, measured_under or refers_to. | | gandb
    e.object_kind, -- text | The same kinds, and model. | | gandb
    e.object_id -- uuid | What it came of. | | gandb
FROM (
    SELECT
        'candidate' AS subject_kind,
        v.candidate_id AS subject_id,
        'generated_by' AS relation,
        'job' AS object_kind,
        v.job_id AS object_id
    FROM generation_event AS v
    GROUP BY v.candidate_id, v.job_id
    UNION ALL
    SELECT 'candidate', g.id, 'sampled_from', 'checkpoint', g.checkpoint_id FROM candidate AS g
    UNION ALL
    SELECT 'candidate', g.id, 'has_structure', 'structure', g.structure_id
    FROM candidate AS g
    WHERE g.structure_id IS NOT NULL
    UNION ALL
    SELECT 'candidate', g.id, 'has_composition', 'composition', g.composition_id
    FROM candidate AS g
    UNION ALL
    SELECT 'candidate', n.candidate_id, 'checked_under', 'recipe', n.recipe_id
    FROM candidate_novelty AS n
    UNION ALL
    SELECT 'composition', x.subject_id, 'checked_under', 'recipe', x.recipe_id
    FROM check_result AS x
    UNION ALL
    SELECT 'structure', y.structure_id, 'checked_under', 'recipe', y.recipe_id
    FROM structure_symmetry AS y
    UNION ALL
    SELECT 'structure', k.structure_id, 'checked_under', 'recipe', k.recipe_id
    FROM structure_check AS k
    UNION ALL
    SELECT 'structure', h.structure_id, 'checked_under', 'recipe', h.recipe_id
    FROM stability AS h
    UNION ALL
    SELECT 'structure', l.structure_id, 'checked_under', 'recipe', l.recipe_id
    FROM relaxation AS l
    UNION ALL
    SELECT 'structure', l.relaxed_id, 'relaxed_from', 'structure', l.structure_id
    FROM relaxation AS l
    WHERE l.relaxed_id IS NOT NULL
    UNION ALL
    SELECT 'structure', s.id, 'has_composition', 'composition', s.composition_id
    FROM structure AS s
    UNION ALL
    SELECT 'structure', m.structure_id, 'has_material', 'structure', m.material_id
    FROM material_member AS m
    WHERE m.standard AND m.structure_id <> m.material_id
    UNION ALL
    SELECT 'job', j.id, 'used', 'checkpoint', j.checkpoint_id
    FROM job AS j
    WHERE j.checkpoint_id IS NOT NULL AND j.kind <> 'import_candidates'
    UNION ALL
    SELECT 'job', j.id, 'used', 'dataset_version', j.dataset_version_id
    FROM job AS j
    WHERE j.dataset_version_id IS NOT NULL
    UNION ALL
    SELECT DISTINCT 'job', x.job_id, 'measured_under', 'recipe', x.recipe_id
    FROM metric AS x
    WHERE x.recipe_id IS NOT NULL
    UNION ALL
    SELECT
        'checkpoint',
        k.id,
        CASE WHEN m.role = 'external' THEN 'brought_by' ELSE 'trained_by' END,
        'job',
        k.job_id
    FROM checkpoint AS k
    JOIN model AS m ON m.id = k.model_id
    UNION ALL
    SELECT 'checkpoint', k.id, 'trained_on', 'dataset_version', k.dataset_version_id
    FROM checkpoint AS k
    WHERE k.dataset_version_id IS NOT NULL
    UNION ALL
    SELECT 'checkpoint', k.id, 'instance_of', 'model', k.model_id FROM checkpoint AS k
    UNION ALL
    SELECT 'dataset_version', p.version_id, 'derived_from', 'dataset_version', p.parent_id
    FROM dataset_parent AS p
    UNION ALL
    SELECT 'dataset_version', b.version_id, 'holds', 'entry', m.entry_id
    FROM dataset_base AS b
    JOIN dataset_change AS m ON m.version_id = b.base_id
    GROUP BY b.version_id, m.entry_id
    HAVING sum(m.change) = 1
    UNION ALL
    SELECT 'entry', f.entry_id, 'read_from', 'source_snapshot', f.snapshot_id
    FROM snapshot_entry AS f
    UNION ALL
    SELECT 'entry', e.id, 'has_structure', 'structure', e.structure_id
    FROM entry AS e
    WHERE e.structure_id IS NOT NULL
    UNION ALL
    SELECT 'entry', e.id, 'has_composition', 'composition', e.composition_id FROM entry AS e
    UNION ALL
    SELECT
        'source_snapshot',
        CAST(c.result ->> 'snapshot_id' AS UUID),
        'imported_by',
        'job',
        c.job_id
    FROM job_chunk AS c
    WHERE c.result ->> 'snapshot_id' LIKE '________-____-____-____-____________'
    UNION ALL
    SELECT
        'recipe',
        r.id,
        'refers_to',
        'dataset_version',
        CAST(r.parameters ->> 'against' AS UUID)
    FROM recipe AS r
    WHERE r.parameters ->> 'against' LIKE '________-____-____-____-____________'
) AS e

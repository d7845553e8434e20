-- One row per checkpoint and kind of judgement: the recipe by which its candidates were judged last; of relaxations, the one that the last stability is of, if there is any.
SELECT
    f.checkpoint_id, -- = checkpoint.id
    f.kind, -- text | novelty, relaxed_novelty, relaxation or stability. | | gandb
    f.recipe_id, -- = recipe.id
    f.job_id, -- = job.id
    f.finished_at -- = job.finished_at
FROM (
    SELECT DISTINCT ON (a.checkpoint_id, a.kind)
        a.checkpoint_id, a.kind, a.recipe_id, a.job_id, a.finished_at
    FROM (
        SELECT
            j.checkpoint_id,
            CASE
                WHEN j.kind = 'stability' THEN 'stability'
                WHEN j.kind = 'relax' THEN 'relaxation'
                WHEN j.kind = 'structure_novelty' THEN 'novelty'
                ELSE 'relaxed_novelty'
            END AS kind,
            CAST((c.result ->> 'recipe_id') AS UUID) AS recipe_id,
            j.id AS job_id,
            j.finished_at,
            1 AS place
        FROM job AS j
        JOIN job_chunk AS c ON c.job_id = j.id
        WHERE j.kind IN ('structure_novelty', 'relaxed_novelty', 'relax', 'stability')
            AND j.state = 'done' AND j.checkpoint_id IS NOT NULL
            AND c.state = 'done' AND (c.result ->> 'recipe_id') IS NOT NULL
        UNION ALL
        SELECT
            j.checkpoint_id,
            'relaxation' AS kind,
            CAST(((j.spec -> 'relaxation') ->> 'recipe') AS UUID) AS recipe_id,
            j.id AS job_id,
            j.finished_at,
            0 AS place
        FROM job AS j
        WHERE j.kind = 'stability' AND j.state = 'done' AND j.checkpoint_id IS NOT NULL
            AND ((j.spec -> 'relaxation') ->> 'recipe') IS NOT NULL
    ) AS a
    ORDER BY a.checkpoint_id, a.kind, a.place, a.finished_at DESC, a.job_id
) AS f

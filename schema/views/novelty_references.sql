-- One row per recipe of novelty: what candidates were compared with, in words.
SELECT
    CAST(c.result ->> 'recipe_id' AS UUID) AS recipe_id, -- = recipe.id
    max(c.result ->> 'against') AS reference -- text | What candidates were compared with, such as icsd@1 (4,000): names, and how many structures. | | gandb: job_chunk.result
FROM job_chunk AS c
JOIN job AS j ON j.id = c.job_id
WHERE j.kind IN ('structure_novelty', 'relaxed_novelty') AND c.state = 'done'
GROUP BY c.result ->> 'recipe_id'

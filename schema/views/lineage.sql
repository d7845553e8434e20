-- One row per candidate and job that generated it: where it comes from.
SELECT
    g.id AS candidate_id, -- = candidate.id
    g.reduced_formula, -- = candidate.reduced_formula
    e.job_id AS generation_job_id, -- = generation_event.job_id
    j.seed AS generation_seed, -- = job.seed
    CAST(sum(e.times) AS BIGINT) AS times, -- bigint | How often this job generated it. | samples | gandb: sum over generation_event
    min(e.first_index) AS first_index, -- bigint | Sample of the job, from 0, at which it came up first. | none | gandb: least over generation_event
    k.checkpoint_id, -- = checkpoint.id
    k.model, -- = model.name
    k.training_job_id, -- = checkpoint.job_id
    k.seed AS training_seed, -- = checkpoint.seed
    k.dataset, -- = datasets.dataset
    k.dataset_version_id -- = checkpoint.dataset_version_id
FROM candidate AS g
JOIN checkpoints AS k ON k.checkpoint_id = g.checkpoint_id
JOIN generation_event AS e ON e.candidate_id = g.id
JOIN job AS j ON j.id = e.job_id
GROUP BY
    g.id, g.reduced_formula, e.job_id, j.seed, k.checkpoint_id, k.model,
    k.training_job_id, k.seed, k.dataset, k.dataset_version_id

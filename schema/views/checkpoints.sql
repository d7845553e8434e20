-- One row per trained generator, baselines included.
SELECT
    k.id AS checkpoint_id, -- = checkpoint.id
    m.name AS model, -- = model.name
    m.version AS model_version, -- = model.version
    m.role, -- = model.role
    m.config, -- = model.config
    r.dataset, -- = datasets.dataset
    k.dataset_version_id, -- = checkpoint.dataset_version_id
    k.seed, -- = checkpoint.seed
    k.iteration, -- = checkpoint.iteration
    k.job_id AS training_job_id, -- = checkpoint.job_id
    k.sha256 -- = checkpoint.sha256
FROM checkpoint AS k
JOIN model AS m ON m.id = k.model_id
LEFT JOIN (
    SELECT version_id, min(dataset) AS dataset FROM datasets GROUP BY version_id
) AS r ON r.version_id = k.dataset_version_id

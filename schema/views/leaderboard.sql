-- One row per finished generation job: the model beside its baselines, under one recipe.
SELECT
    j.id AS job_id, -- = job.id
    k.model, -- = model.name
    k.role, -- = model.role
    k.dataset, -- = datasets.dataset
    k.seed AS training_seed, -- = checkpoint.seed
    j.seed AS generation_seed, -- = job.seed
    max(x.step) AS n_samples, -- Samples drawn. | samples | gandb
    max(CASE WHEN x.name = 'cnen_strict' THEN x.value END) AS cnen_strict, -- Samples that pass cnen_strict. | share | gandb: metric cnen_strict at N = n_samples
    max(CASE WHEN x.name = 'cnen_default' THEN x.value END) AS cnen_default, -- Samples that pass cnen_default. | share | gandb: metric cnen_default at N = n_samples
    max(CASE WHEN x.name = 'cnen_matgan' THEN x.value END) AS cnen_matgan, -- Samples that pass cnen_matgan. | share | gandb: metric cnen_matgan at N = n_samples
    max(CASE WHEN x.name = 'uniqueness' THEN x.value END) AS uniqueness, -- Distinct compositions among samples. | share | gandb: metric uniqueness at N = n_samples
    max(CASE WHEN x.name = 'novelty' THEN x.value END) AS novelty, -- Distinct compositions that are not in the training dataset version. | share | gandb: metric novelty at N = n_samples
    max(CASE WHEN x.name = 'recovery' THEN x.value END) AS recovery, -- Held-out test compositions that were generated. | share | gandb: metric recovery at N = n_samples
    max(CASE WHEN x.name = 'rejected' THEN x.value END) AS rejected, -- Samples that could not be decoded. | share | gandb: metric rejected at N = n_samples
    k.checkpoint_id -- = checkpoint.id
FROM job AS j
JOIN checkpoints AS k ON k.checkpoint_id = j.checkpoint_id
JOIN metric AS x ON x.job_id = j.id
JOIN (
    SELECT job_id, max(step) AS n FROM metric WHERE name = 'uniqueness' GROUP BY job_id
) AS n ON n.job_id = j.id AND n.n = x.step
WHERE j.kind = 'generate'
GROUP BY j.id, j.seed, k.model, k.role, k.dataset, k.seed, k.checkpoint_id

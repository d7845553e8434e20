-- One row per finished generation job: the model beside its baselines, under one recipe.
SELECT
    j.id AS job_id, -- = job.id
    k.model, -- = model.name
    k.role, -- = model.role
    k.dataset, -- = datasets.dataset
    k.seed AS training_seed, -- = checkpoint.seed
    j.seed AS generation_seed, -- = job.seed
    max(x.step) AS n_samples, -- bigint | Samples drawn. | samples | gandb
    max(CASE WHEN x.name = 'cnen_strict' THEN x.value END) AS cnen_strict, -- double | Share of samples that pass cnen_strict. | 1 | gandb: metric cnen_strict at N = n_samples
    max(CASE WHEN x.name = 'cnen_default' THEN x.value END) AS cnen_default, -- double | Share of samples that pass cnen_default. | 1 | gandb: metric cnen_default at N = n_samples
    max(CASE WHEN x.name = 'cnen_matgan' THEN x.value END) AS cnen_matgan, -- double | Share of samples that pass cnen_matgan. | 1 | gandb: metric cnen_matgan at N = n_samples
    max(CASE WHEN x.name = 'uniqueness' THEN x.value END) AS uniqueness, -- double | Distinct compositions per sample. | 1 | gandb: metric uniqueness at N = n_samples
    max(CASE WHEN x.name = 'novelty' THEN x.value END) AS novelty, -- double | Share of distinct compositions that are not in the training dataset version. | 1 | gandb: metric novelty at N = n_samples
    max(CASE WHEN x.name = 'recovery' THEN x.value END) AS recovery, -- double | Share of held-out test compositions that were generated. | 1 | gandb: metric recovery at N = n_samples
    max(CASE WHEN x.name = 'rejected' THEN x.value END) AS rejected, -- double | Share of samples that could not be decoded. | 1 | gandb: metric rejected at N = n_samples
    k.checkpoint_id -- = checkpoint.id
FROM job AS j
JOIN checkpoints AS k ON k.checkpoint_id = j.checkpoint_id
JOIN metric AS x ON x.job_id = j.id
JOIN (
    SELECT job_id, max(step) AS n FROM metric WHERE name = 'uniqueness' GROUP BY job_id
) AS n ON n.job_id = j.id AND n.n = x.step
WHERE j.kind IN ('generate', 'import_candidates')
GROUP BY j.id, j.seed, k.model, k.role, k.dataset, k.seed, k.checkpoint_id

-- One row per entry, dataset version that holds it, and checkpoint trained on that version.
SELECT
    g.entry_id, -- = entry.id
    g.version_id, -- = dataset_version.id
    d.dataset, -- = datasets.dataset
    g.split, -- = dataset_change.split
    k.checkpoint_id, -- = checkpoint.id
    k.model, -- = model.name
    k.role, -- = model.role
    k.seed AS training_seed, -- = checkpoint.seed
    coalesce(n.n_candidates, 0) AS n_candidates -- bigint | Candidates that were sampled from the checkpoint. | rows | gandb
FROM (
    SELECT b.version_id, m.entry_id, max(m.split) AS split
    FROM dataset_base AS b
    JOIN dataset_change AS m ON m.version_id = b.base_id
    GROUP BY b.version_id, m.entry_id
    HAVING sum(m.change) = 1
) AS g
LEFT JOIN (
    SELECT version_id, min(dataset) AS dataset FROM datasets GROUP BY version_id
) AS d ON d.version_id = g.version_id
LEFT JOIN checkpoints AS k ON k.dataset_version_id = g.version_id
LEFT JOIN (
    SELECT checkpoint_id, count(*) AS n_candidates FROM candidate GROUP BY checkpoint_id
) AS n ON n.checkpoint_id = k.checkpoint_id

-- One row per member of a numbered dataset version.
SELECT
    d.dataset, -- = datasets.dataset
    d.version_id, -- = dataset_version.id
    g.entry_id, -- = dataset_change.entry_id
    g.split -- = dataset_change.split
FROM datasets AS d
JOIN (
    SELECT
        b.version_id,
        m.entry_id,
        CASE mod(max(l.length * 3 + CASE m.split WHEN 'train' THEN 0 WHEN 'validation' THEN 1 ELSE 2 END), 3) WHEN 0 THEN 'train' WHEN 1 THEN 'validation' ELSE 'test' END AS split
    FROM dataset_base AS b
    JOIN (
        SELECT version_id, count(*) AS length FROM dataset_base GROUP BY version_id
    ) AS l ON l.version_id = b.base_id
    JOIN dataset_change AS m ON m.version_id = b.base_id
    GROUP BY b.version_id, m.entry_id
    HAVING sum(m.change) = 1
) AS g ON g.version_id = d.version_id

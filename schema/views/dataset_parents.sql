-- One row per version and parent: the graph of versions, whatever they are called.
SELECT
    n.dataset, -- = datasets.dataset
    p.version_id, -- = dataset_parent.version_id
    p.position, -- = dataset_parent.position
    r.dataset AS parent, -- = datasets.dataset
    p.parent_id -- = dataset_parent.parent_id
FROM dataset_parent AS p
LEFT JOIN (
    SELECT version_id, min(dataset) AS dataset FROM datasets GROUP BY version_id
) AS n ON n.version_id = p.version_id
LEFT JOIN (
    SELECT version_id, min(dataset) AS dataset FROM datasets GROUP BY version_id
) AS r ON r.version_id = p.parent_id

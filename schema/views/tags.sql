-- One row per tag of a dataset: who calls which version what.
SELECT
    d.name || '@' || t.tag AS reference, -- text | Name and tag, as used everywhere. | | gandb
    n.dataset, -- = datasets.dataset
    d.name, -- = dataset.name
    t.tag, -- = dataset_tag.tag
    t.origin, -- = dataset_tag.origin
    t.version_id, -- = dataset_tag.version_id
    row_number() OVER (PARTITION BY t.dataset_id, t.tag ORDER BY CASE t.origin WHEN '' THEN 0 ELSE 1 END, t.created_at DESC, t.origin, CAST(t.version_id AS TEXT)) = 1 AS counts, -- boolean | The name and tag mean this version: this store's own before others', else the newest. | | gandb
    t.message, -- = dataset_tag.message
    t.created_at -- = dataset_tag.created_at
FROM dataset_tag AS t
JOIN dataset AS d ON d.id = t.dataset_id
LEFT JOIN (
    SELECT version_id, name, max(dataset) AS dataset FROM datasets GROUP BY version_id, name
) AS n ON n.version_id = t.version_id AND n.name = d.name

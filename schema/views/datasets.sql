-- One row per numbered dataset version; numbers that were removed are left out.
SELECT
    d.name || '@' || CAST(n.number AS TEXT) AS dataset, -- text | Name and number, as used everywhere. | | gandb
    d.name, -- = dataset.name
    n.number, -- = dataset_number.number
    n.version_id, -- = dataset_number.version_id
    v.parent_id, -- = dataset_version.parent_id
    v.n_entries, -- = dataset_version.n_entries
    v.n_compositions, -- = dataset_version.n_compositions
    v.split_recipe, -- = dataset_version.split_recipe
    n.message, -- = dataset_number.message
    n.selection, -- = dataset_number.selection
    n.created_at -- = dataset_number.created_at
FROM dataset_number AS n
JOIN dataset AS d ON d.id = n.dataset_id
JOIN dataset_version AS v ON v.id = n.version_id
WHERE n.removed_at IS NULL

-- One row per dataset version and source snapshot that members of it were read from.
SELECT
    n.version_id, -- = dataset_version.id
    n.snapshot_id, -- = source_snapshot.id
    s.source, -- = source_snapshot.source
    s.release, -- = source_snapshot.release
    n.n_entries, -- bigint | Members of the version that the snapshot holds; one may be in several snapshots. | rows | gandb
    s.licence, -- = source_snapshot.licence
    s.attribution, -- = source_snapshot.attribution
    s.files -- = source_snapshot.files
FROM (
    SELECT g.version_id, f.snapshot_id, count(*) AS n_entries
    FROM (
        SELECT b.version_id, m.entry_id
        FROM dataset_base AS b
        JOIN dataset_change AS m ON m.version_id = b.base_id
        GROUP BY b.version_id, m.entry_id
        HAVING sum(m.change) = 1
    ) AS g
    JOIN snapshot_entry AS f ON f.entry_id = g.entry_id
    GROUP BY g.version_id, f.snapshot_id
) AS n
JOIN source_snapshot AS s ON s.id = n.snapshot_id

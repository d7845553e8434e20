-- One row per import of a source.
SELECT
    s.id AS snapshot_id, -- = source_snapshot.id
    s.source, -- = source_snapshot.source
    s.release, -- = source_snapshot.release
    s.filter, -- = source_snapshot.filter
    s.n_rows, -- = source_snapshot.n_rows
    s.n_entries, -- = source_snapshot.n_entries
    s.n_rejects, -- = source_snapshot.n_rejects
    s.n_repeats, -- = source_snapshot.n_repeats
    s.endpoint, -- = source_snapshot.endpoint
    s.parser, -- = source_snapshot.parser
    s.licence, -- = source_snapshot.licence
    s.attribution, -- = source_snapshot.attribution
    s.files, -- = source_snapshot.files
    s.options, -- = source_snapshot.options
    s.imported_at -- = source_snapshot.imported_at
FROM source_snapshot AS s

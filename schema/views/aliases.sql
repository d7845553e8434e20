-- One row per further id of an entry.
SELECT
    a.alias, -- = entry_alias.alias
    a.kind, -- = entry_alias.kind
    e.source, -- = entry.source
    e.external_id, -- = entry.external_id
    a.entry_id -- = entry_alias.entry_id
FROM entry_alias AS a
JOIN entry AS e ON e.id = a.entry_id

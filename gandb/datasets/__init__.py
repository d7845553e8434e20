"""Named, immutable, numbered sets of entries with reproducible splits."""

"""The schema revisions, oldest first. A test compares them with the migration scripts."""

HISTORY = ("0001", "0002", "0003", "0004", "0005")

HEAD = HISTORY[-1]
"""The revision that this version of gandb reads and writes."""

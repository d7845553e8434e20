"""Where a thing comes from, and what came of it."""

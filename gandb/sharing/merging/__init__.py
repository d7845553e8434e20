"""Taking in bundles, and what groups state differently."""

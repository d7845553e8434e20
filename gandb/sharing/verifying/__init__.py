"""Working out again what a bundle says."""

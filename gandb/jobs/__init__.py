"""Work that survives: a jobs table, leases, and workers that may die at any instruction."""

"""Records to arrays and back: one codec per form that a model reads."""

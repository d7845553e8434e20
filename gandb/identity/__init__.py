"""Whether two things are the same, and whether one is new."""

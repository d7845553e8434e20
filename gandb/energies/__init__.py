"""Energies: potentials, relaxation, hulls."""

"""Bundles: packing what a group hands on, opening and asking what it is handed."""

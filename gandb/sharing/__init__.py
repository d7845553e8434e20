"""Handing stores over: whole-store backups."""

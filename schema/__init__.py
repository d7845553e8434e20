"""The public contract: tables, views and the data dictionary."""

"""OPTIMADE straight from SQL: publications, filters, answers."""

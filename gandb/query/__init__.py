"""Read-only SQL for users: sandboxed statements, streamed results, files and frames."""

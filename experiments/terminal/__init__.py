"""What a person types and sees: options, progress, tables and exit codes."""

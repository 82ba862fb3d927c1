"""What is searched and recorded: studies, their runs, and the command line."""

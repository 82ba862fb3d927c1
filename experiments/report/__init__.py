"""What a study found: on the terminal, as a page, as Markdown, as code to copy, and in MLflow."""

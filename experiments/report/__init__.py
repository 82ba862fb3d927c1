"""What a study found, as a page, as Markdown and as code to copy."""

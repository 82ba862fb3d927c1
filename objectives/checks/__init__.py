"""Whether a pipeline can be tuned, before anything is measured."""

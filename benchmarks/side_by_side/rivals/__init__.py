"""What users do instead, each as a dataset of batches of a built-in pipeline's own elements."""

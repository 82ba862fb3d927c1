"""The training loop that is measured: batches in, steps out, a rate with its interval."""

"""What `make results` and `make results-gpu` are made of."""

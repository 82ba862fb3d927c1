"""The checks that need a GPU: `make gpu-check`."""

"""The parts of `make results` and `make results-gpu`."""

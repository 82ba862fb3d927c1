"""Asks of each built-in pipeline whether it keeps an accelerator busy, and at what cost."""

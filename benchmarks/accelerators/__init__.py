"""Checks whether each built-in pipeline keeps an accelerator busy, and at what cost."""

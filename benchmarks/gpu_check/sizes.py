"""The batch sizes of the step that doesn't always fit, in a module that needs no TensorFlow."""

from __future__ import annotations

# In examples. The first two fit; the other two need 256 GiB and more.
FITTING, TOO_LARGE = (2, 4), (1_024, 2_048)

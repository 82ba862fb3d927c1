"""The batch sizes of the step that does not always fit; read without TensorFlow, too."""

from __future__ import annotations

# In examples. The first two fit, the other two need 256 GiB and more.
FITTING, TOO_LARGE = (2, 4), (1_024, 2_048)

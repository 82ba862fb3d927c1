"""Training scripts as pipelines: run up to `fit`, with the chain that feeds it recorded.

Attributes:
    PROGRAM: the command that runs or times a script (`__main__.py`); its arguments follow.
"""

import sys

PROGRAM = [sys.executable, "-P", "-m", "prefetch_tuning.pipelines.script"]

"""
A far end for tests: a local server that speaks E2B's protocols to the real SDK and runs real processes.

What it promises is shown in `tests/test_e2b_server*.py`. It serves HTTP/1.1; what only HTTP/2 has (stream resets,
GOAWAY, a limit of streams) cannot be had here.
"""

from tests.e2b_server.far_end import FarEnd, far_end
from tests.e2b_server.policy import Policy
from tests.e2b_server.server import E2BServer

__all__ = ["E2BServer", "FarEnd", "Policy", "far_end"]

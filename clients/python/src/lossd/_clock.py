"""Deadlines, on time.monotonic's clock. None: there is none."""

from __future__ import annotations

import time
from typing import Optional

#: Seconds that connecting and the daemon's first word may take.
CONNECT_TIMEOUT = 10.0
#: Seconds that a call waits longer than its timeout, for the daemon's own word.
GRACE = 0.05


def deadline_after(timeout: Optional[float]) -> Optional[float]:
    return None if timeout is None else time.monotonic() + timeout


def left_until(deadline: Optional[float]) -> Optional[float]:
    return None if deadline is None else max(0.0, deadline - time.monotonic())

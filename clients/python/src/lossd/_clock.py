"""Deadlines, on time.monotonic's clock. None: there is none."""

from __future__ import annotations

import math
import time
from typing import Any, Optional

#: Seconds that connecting and the daemon's first word may take.
CONNECT_TIMEOUT = 10.0
#: Seconds that a call waits longer than its timeout, for the daemon's own word.
GRACE = 0.05
#: Seconds, 31 years, from which on a timeout is none: what waits for threads takes no longer ones.
LONGEST = 1e9
#: Seconds that one wait of the system's may take at most: poll's milliseconds are an int of C's.
WAIT_MAX = 86400.0


def seconds(value: Any, name: str) -> Optional[float]:
    """A number of seconds that a caller gave; None: without end. ValueError, TypeError."""
    if value is None:
        return None
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        value = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {value!r}, expected seconds or None") from None
    except OverflowError:  # an int beyond float's
        value = math.inf if value > 0 else -math.inf
    if math.isnan(value) or value < 0:
        raise ValueError(f"{name} is {value}, expected seconds, 0 or more, or None")
    return None if value >= LONGEST else value


def at_most(value: Any, name: str) -> float:
    """The same; where it is without end LONGEST."""
    found = seconds(value, name)
    return LONGEST if found is None else found


def deadline_after(timeout: Optional[float]) -> Optional[float]:
    """ValueError where a timeout is negative or not a number."""
    timeout = seconds(timeout, "timeout")
    return None if timeout is None else time.monotonic() + timeout


def left_until(deadline: Optional[float]) -> Optional[float]:
    return None if deadline is None else max(0.0, deadline - time.monotonic())

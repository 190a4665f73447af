"""How long a daemon that is away is waited for: without I/O, for both clients."""

from __future__ import annotations

import random
import time
from typing import Optional

from . import _clock
from ._clock import left_until
from .errors import Closed, NeverBegan, Unavailable

#: Seconds before what failed is tried again: at first, and at most.
FIRST, LONGEST = 0.02, 1.0


class Outage:
    """The tries of one call."""

    def __init__(self, address: str, retry: Optional[float], deadline: Optional[float], tries_max: int, pause: float,
                 is_restarting: bool = False):
        self._address = address
        #: Seconds; 0: only what never began is tried again.
        self._retry = retry
        self._deadline = deadline
        self._tries_max = tries_max
        self._pause = pause
        self._is_restarting = is_restarting
        self._tries = 0
        self._until: Optional[float] = None
        self._next = FIRST

    def after(self, error: Unavailable, is_connected: bool) -> float:
        """Seconds to wait until the next try; raises the error where there is none."""
        if isinstance(error, Closed):
            raise error
        if self._retry:
            return self._after_with_retry(error)
        tries = self._tries
        self._tries += 1
        if not isinstance(error, NeverBegan) and (is_connected or (tries == 0 and not self._is_restarting)):
            # A daemon that is being restarted comes back; one that never was there is an error.
            raise error
        if self._tries >= self._tries_max:
            raise Unavailable(f"{self._address}: the daemon keeps shutting down") from error
        return 0 if tries == 0 and isinstance(error, NeverBegan) else self._pause

    def _after_with_retry(self, error: Unavailable) -> float:
        retry = self._retry or 0
        now = time.monotonic()
        if self._until is None:
            self._until = now + min(retry, _clock.LONGEST)
        elif now >= self._until:
            raise type(error)(f"{error.message} (tried again for {retry:g} s)", error.metadata) from error
        # Many clients shall not come back at the same moment.
        pause = self._next * random.uniform(0.5, 1)
        self._next = min(2 * self._next, LONGEST)
        left = left_until(self._deadline)
        return max(0.0, min(pause, self._until - now, pause if left is None else left))

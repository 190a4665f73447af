"""Whole frames to a socket, from any threads."""

from __future__ import annotations

import select
import socket
import struct
import threading
from typing import Any, Callable, List, Optional

from ._clock import left_until
from .errors import DeadlineExceeded, LossdError

_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class Writer:
    """`lock`, then `write_and_unlock`: what is decided between them goes out in the order of its being decided.

    Where the daemon reads no more, `on_broken` is called and nothing else is said: what it wrote last is still to be
    read, and the reader ends the calls.
    """

    def __init__(self, connected: socket.socket, on_broken: Callable[[], None]):
        self._socket = connected
        self._on_broken = on_broken
        # Not reentrant: a thread that goes on with another's write releases it.
        self._lock = threading.Lock()

    def send(self, parts: List[Any], deadline: Optional[float]) -> None:
        self.lock(deadline)
        self.write_and_unlock(parts, deadline)

    def lock(self, deadline: Optional[float]) -> None:
        if not self._lock.acquire(timeout=-1 if deadline is None else left_until(deadline) or 0):
            raise DeadlineExceeded("the timeout was over before the call could be sent")

    def unlock(self) -> None:
        self._lock.release()

    def write_and_unlock(self, parts: List[Any], deadline: Optional[float], descriptor: Optional[int] = None) -> None:
        """`descriptor` goes along with the first byte."""
        rest = [memoryview(part) for part in parts if len(part)]
        try:
            self._write(rest, deadline, descriptor)
        except BaseException as error:
            if isinstance(error, OSError) and not isinstance(error, LossdError):
                self._on_broken()
            elif descriptor is None:
                # The timeout, or Ctrl-C. A frame has to be whole: another thread, which has the lock from here on,
                # writes the rest of it after its call has ended.
                threading.Thread(target=self.write_and_unlock, args=(rest, None), name="lossd-writer",
                                 daemon=True).start()
                raise
            else:
                self._lock.release()
                raise
        self._lock.release()

    def _write(self, rest: List[memoryview], deadline: Optional[float], descriptor: Optional[int]) -> None:
        """What has been written is gone from `rest`, also when this raises."""
        ancillary: List[Any] = []
        if descriptor is not None:
            ancillary.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", descriptor)))
        while rest:
            try:
                sent = self._socket.sendmsg(rest[:64], ancillary, _FLAGS)
            except BlockingIOError:
                # A frame with a descriptor is so small that it goes whole or not at all.
                if not self._wait_for_room(deadline):
                    raise DeadlineExceeded("the daemon did not take the request within the timeout") from None
                continue
            ancillary = []
            while sent:
                if sent >= len(rest[0]):
                    sent -= len(rest[0])
                    rest.pop(0)
                else:
                    rest[0] = rest[0][sent:]
                    sent = 0

    def _wait_for_room(self, deadline: Optional[float]) -> bool:
        poller = select.poll()
        poller.register(self._socket, select.POLLOUT)
        left = left_until(deadline)
        return bool(poller.poll(None if left is None else left * 1000 + 1))

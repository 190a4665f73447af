"""Whole frames to a socket, from any threads."""

from __future__ import annotations

import select
import socket
import threading
from typing import Any, Callable, List, Optional

from . import _clock
from ._clock import left_until
from .errors import DeadlineExceeded

_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class Turn:
    """One thread's time at the socket: what is decided between `take` and `write` goes out in the order of its being
    decided. Whoever makes one calls `end` in the end, whatever happens, and again if that was interrupted: Ctrl-C may
    come anywhere."""

    def __init__(self, writer: "Writer"):
        self._writer = writer
        #: What is still to be sent; None until something is.
        self._rest: Optional[List[memoryview]] = None
        #: What the system took is not yet gone from the rest.
        self._is_sending = False

    @property
    def has_begun(self) -> bool:
        """Something may have been sent: what is left will be, too."""
        return self._rest is not None

    def take(self, deadline: Optional[float]) -> None:
        """DeadlineExceeded where others write until then."""
        writer = self._writer
        with writer.lock:
            try:
                while writer.owner is not None:
                    if not writer.changed.wait(left_until(deadline)) and left_until(deadline) == 0:
                        raise DeadlineExceeded("the timeout was over before the call could be sent")
            except BaseException:
                writer.changed.notify()  # It may have been this one's turn.
                raise
            writer.owner = self

    def write(self, parts: List[Any], deadline: Optional[float]) -> None:
        rest = self._rest = [memoryview(part) for part in parts if len(part)]
        try:
            self._write(rest, deadline)
        except BlockingIOError:
            raise DeadlineExceeded("the daemon did not take the request within the timeout") from None
        except OSError:
            self._rest = []
            self._is_sending = False
            self._writer.on_broken()

    def _write(self, rest: List[memoryview], deadline: Optional[float]) -> None:
        """What has been written is gone from the rest, also when this raises. BlockingIOError: the timeout is over."""
        writer = self._writer
        while rest:
            self._is_sending = True
            try:
                sent = writer.socket.sendmsg(rest[:64], (), _FLAGS)
            except BlockingIOError:
                self._is_sending = False
                if not writer.wait_for_room(deadline):
                    raise
                continue
            while sent:
                if sent >= len(rest[0]):
                    sent -= len(rest[0])
                    rest.pop(0)
                else:
                    rest[0] = rest[0][sent:]
                    sent = 0
            self._is_sending = False

    def end(self) -> None:
        """It is another's turn."""
        writer = self._writer
        if writer.owner is not self:
            return
        if self._is_sending:
            # Interrupted where nobody knows how much went: the daemon can make nothing of what would follow.
            self._rest = []
            writer.give_up()
        if self._rest:
            # A frame has to be whole: another thread, whose turn it is from here on, writes the rest of it.
            writer.finish(self._rest)
            return
        with writer.lock:
            writer.changed.notify()
            writer.owner = None


class Writer:
    """Where the daemon reads no more, `on_broken` is called and nothing else is said: what it wrote last is still to be
    read, and the reader ends the calls.
    """

    def __init__(self, connected: socket.socket, on_broken: Callable[[], None]):
        self.socket = connected
        self.on_broken = on_broken
        #: Guards `owner`: whose turn it is. Reentrant: a finalizer that closes the client may run where it is held.
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.owner: Optional[Turn] = None

    def send(self, parts: List[Any], deadline: Optional[float]) -> None:
        turn = Turn(self)
        try:
            turn.take(deadline)
            turn.write(parts, deadline)
        finally:
            try:
                turn.end()
            finally:
                turn.end()

    def give_up(self) -> None:
        """Nothing more can be said to the daemon."""
        self.on_broken()
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def finish(self, rest: List[memoryview]) -> None:
        """The rest of a frame, by a thread of its own, whose turn it is."""
        turn = Turn(self)

        def run() -> None:
            try:
                turn.write(rest, None)
            finally:
                turn.end()

        self.owner = turn
        try:
            threading.Thread(target=run, name="lossd-writer", daemon=True).start()
        except BaseException:  # There are no more threads.
            self.give_up()
            turn.end()
            raise

    def wait_for_room(self, deadline: Optional[float]) -> bool:
        poller = select.poll()
        poller.register(self.socket, select.POLLOUT)
        left = left_until(deadline)
        return bool(poller.poll(None if left is None else min(left, _clock.WAIT_MAX) * 1000 + 1)) or left_until(
            deadline) != 0

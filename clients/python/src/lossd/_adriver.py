"""Small evaluations of an event loop, through liblossd's core in C. Confined to the loop."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, Dict, Optional

from . import _clock, _core, _wire as wire
from ._aconnection import open_socket
from ._driver import microseconds
from ._sockets import unavailable
from .errors import LossdError

#: gRPC's numbers.
CANCELLED, UNAVAILABLE = 1, 14


class AsyncDriver:
    """What begins in one turn of the loop is written together, with the next."""

    def __init__(self, address: str) -> None:
        self.loop = asyncio.get_running_loop()
        self._address = address
        self._core = _core.Driver(address, int(_clock.CONNECT_TIMEOUT * 1e6), None, address == wire.PRIVATE_ADDRESS)
        self._waiting: Dict[int, "asyncio.Future[None]"] = {}
        self._tokens = itertools.count(1)
        self._is_due = False  # a turn
        self._timer: Optional[asyncio.TimerHandle] = None
        self._connecting: Optional["asyncio.Task[None]"] = None
        self._is_closed = False
        self.loop.add_reader(self._core.fileno(), self._turn)

    @property
    def is_usable(self) -> bool:
        return not self._is_closed and not self._core.has_forked()

    async def evaluate(self, function: Any, inputs: Any, attributes: Any, outputs: Any, deadline: Optional[float],
                       below: int) -> Optional[Dict[str, Any]]:
        """The results; None where the inputs have `below` bytes or are not plain enough."""
        token = next(self._tokens)
        left = 0 if deadline is None else microseconds(deadline)
        call = self._core.begin(function, inputs, attributes, outputs, left, below, token)
        if call is None:
            return None
        ended = self._waiting[token] = self.loop.create_future()
        if not self._is_due:
            self._is_due = True
            self.loop.call_soon(self._turn)
        try:
            await ended
        except asyncio.CancelledError:
            self._waiting.pop(token, None)
            call.abandon()
            raise
        return call.wait()

    def close(self) -> None:
        """Calls under way raise Closed."""
        if self._is_closed or self._core.has_forked():
            return
        if not self.loop.is_closed():
            self.loop.remove_reader(self._core.fileno())
            if self._connecting is not None:
                self._connecting.cancel()
        self._is_closed = True
        self._core.close()
        if not self.loop.is_closed():
            self._turn()

    def _turn(self) -> None:
        self._is_due = False
        if self._core.has_forked():
            return
        ended, is_to_connect, pause = self._core.turn()
        for token in ended:
            future = self._waiting.pop(token, None)
            if future is not None and not future.done():
                future.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_closed:
            return
        if pause is not None:
            self._timer = self.loop.call_later(min(pause, _clock.WAIT_MAX) + 0.001, self._turn)
        if is_to_connect:
            self._connecting = self.loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            connected = await asyncio.wait_for(open_socket(self._address), _clock.CONNECT_TIMEOUT)
            self._core.connected(connected.detach())
        except asyncio.TimeoutError:
            self._core.refused(UNAVAILABLE, f"{self._address}: not connected in time")
        except LossdError as error:
            self._core.refused(error.code, error.message)
        except OSError as error:
            self._core.refused(UNAVAILABLE, unavailable(self._address, error).message)
        except BaseException:
            self._core.refused(CANCELLED, "interrupted")
            raise
        finally:
            self._connecting = None
            if not self._is_closed:
                self._turn()

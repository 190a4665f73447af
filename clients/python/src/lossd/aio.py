"""The client for asyncio: every method of Client as a coroutine."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any, Awaitable, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple, TypeVar, Union

import numpy as np
from numpy.typing import NDArray

from . import _clock, _driver, _named, _shm, _wire as wire
from ._aconnection import AsyncConnection
from ._adriver import AsyncDriver
from ._clock import deadline_after, left_until
from ._functions import Functions
from ._functions_base import Asked, WithGrad, WithGrads
from ._evaluation import Evaluation
from ._messages import FunctionDescription, Status
from ._named import Named
from ._arestream import RepeatedAsyncStream
from ._retry import Outage
from .astream import AsyncStream, Batches
from .client import PAUSE, TRIES
from .errors import DeadlineExceeded, InvalidArgument, LossdError, Unavailable

T = TypeVar("T")


class AsyncClient(Functions[Awaitable[NDArray[Any]], Awaitable[WithGrad], Awaitable[WithGrads]]):
    """A client of one daemon for one event loop at a time; thousands of calls at once. Cancelling a task cancels
    its call. It connects when it is first used, again when the connection is gone and after a fork, and tries
    again what the daemon says it never began."""

    def __init__(self, address: str, retry: Optional[float] = None):
        wire.parse_address(address)
        self.address = address
        #: Seconds that evaluations are repeated for while the daemon is away; 0: not at all.
        self.retry: float = 0.0 if retry is None else _clock.at_most(retry, "retry")
        self._current: Optional[AsyncConnection] = None
        #: Functions a result of which had another size than was thought.
        self._other_sizes: Set[str] = set()
        #: What functions gave, by their names, where no outputs were named.
        self._defaults: Dict[str, Tuple[str, ...]] = {}
        self._connecting: Optional["asyncio.Future[AsyncConnection]"] = None
        #: Of small evaluations.
        self._small: Optional[AsyncDriver] = None

    def __reduce__(self) -> Any:
        # A copy, also in another process, connects anew.
        return type(self), (self.address, self.retry)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection; calls under way raise Unavailable."""
        if self._current is not None:
            await self._current.close()
            self._current = None
        if self._small is not None:
            self._small.close()
            self._small = None

    def _driver(self) -> Optional[AsyncDriver]:
        """For small evaluations: of the loop that runs. None where the process has no room for its descriptor."""
        small = self._small
        if small is None or not small.is_usable or small.loop is not asyncio.get_running_loop():
            if small is not None:
                small.close()
            try:
                small = self._small = AsyncDriver(self.address)
            except OSError:
                return None
        return small

    async def _connection(self, deadline: Optional[float] = None) -> AsyncConnection:
        loop = asyncio.get_running_loop()
        current = self._current
        if current is not None and current.is_usable and current.loop is loop:
            return current
        if current is not None and current.process != os.getpid():
            self._current = None
        if self._connecting is None or self._connecting.get_loop() is not loop:
            self._connecting = asyncio.ensure_future(AsyncConnection.connect(self.address))
        connecting = self._connecting
        try:
            # Shared by all calls that wait for it: one that is cancelled leaves it to the others.
            self._current = await asyncio.wait_for(asyncio.shield(connecting), left_until(deadline))
        except asyncio.TimeoutError as error:
            if isinstance(error, LossdError):
                raise
            raise DeadlineExceeded(f"{self.address}: not connected within the timeout") from None
        finally:
            if connecting.done() and self._connecting is connecting:
                self._connecting = None
        return self._current

    def _outage(self, deadline: Optional[float], is_restarting: bool = False) -> Outage:
        return Outage(self.address, self.retry, deadline, TRIES, PAUSE, is_restarting)

    async def _retry(self, attempt: Callable[[AsyncConnection], Awaitable[T]], deadline: Optional[float],
                     is_restarting: bool = False, outage: Optional[Outage] = None) -> T:
        """What `attempt` gives, and gives again where the daemon is away for as long as one may wait."""
        outage = outage or self._outage(deadline, is_restarting)
        while True:
            is_connected = False
            try:
                connection = await self._connection(deadline)
                is_connected = True
                return await attempt(connection)
            except Unavailable as error:
                await asyncio.sleep(outage.after(error, is_connected))

    async def _unary(self, method: str, request: wire.Request,
                     timeout: Optional[float]) -> Tuple[bytes, memoryview]:
        deadline = deadline_after(timeout)

        async def attempt(connection: AsyncConnection) -> Tuple[bytes, memoryview]:
            call = await connection.open(method, deadline, request)
            message, payload, _ = await connection.receive(call)
            return message, payload

        return await self._retry(attempt, deadline)

    async def evaluate(self, function: str, inputs: Mapping[str, Any],
                       attributes: Optional[Mapping[str, Any]] = None, outputs: Union[str, Sequence[str]] = (),
                       timeout: Optional[float] = None) -> Dict[str, NDArray[Any]]:
        """One evaluation of any function: results by name. Arguments and errors are Client.evaluate's."""
        deadline = None if timeout is None else deadline_after(timeout)
        driver = None if self.retry else self._driver()
        if driver is not None:
            small = await driver.evaluate(function, inputs, attributes, outputs, deadline, _shm.THRESHOLD)
            if small is not None:
                return small
        evaluation = Evaluation(function, inputs, attributes, outputs, 1, defaults=self._defaults)
        if not evaluation.is_big:
            small = await self._plain(evaluation, deadline)
            if small is not None:
                return small
        result = await self._evaluated(evaluation, deadline)
        if not evaluation.outputs:
            self._defaults[function] = tuple(result)
        return result

    async def _plain(self, evaluation: Evaluation, deadline: Optional[float]) -> Optional[Dict[str, Any]]:
        """A small one that was not plain enough as it came, or is repeated while the daemon is away."""
        outage = self._outage(deadline)
        inputs, attributes = _driver.plain(evaluation)
        while True:
            driver = self._driver()
            if driver is None:
                return None
            try:
                return await driver.evaluate(
                    evaluation.function, inputs, attributes, evaluation.outputs, deadline, sys.maxsize)
            except Unavailable as error:
                if not self.retry:
                    raise
                await asyncio.sleep(outage.after(error, True))

    async def _evaluated(self, evaluation: Evaluation, deadline: Optional[float]) -> Dict[str, Any]:
        is_other_size = evaluation.function in self._other_sizes
        if evaluation.is_big and not is_other_size:
            try:
                return await self._retry(
                    lambda connection: self._attempt(connection, evaluation, True, deadline), deadline)
            except InvalidArgument:
                if not evaluation.expected():
                    raise
                # Perhaps a result has another size than was thought.
                is_other_size = True
        result = await self._retry(lambda connection: self._attempt(connection, evaluation, False, deadline), deadline)
        if is_other_size:
            # That was it: the function's next call is not sent twice.
            self._other_sizes.add(evaluation.function)
        return result

    async def _attempt(self, connection: AsyncConnection, evaluation: Evaluation, has_results: bool,
                       deadline: Optional[float]) -> Dict[str, Any]:
        request, lease = await connection.lease(evaluation, has_results, deadline)
        try:
            call = await connection.open(wire.EVALUATE, deadline, request, lease)
        except BaseException:
            if lease is not None:
                lease.end(is_safe=True)  # nothing has been sent
            raise
        try:
            message, payload, _ = await connection.receive(call)
            return wire.response(message, payload, lease)[1]
        finally:
            if lease is not None and not call.is_abandoned:
                lease.end(is_safe=True)

    async def empty(self, shape: Any, dtype: Any = np.float32) -> NDArray[Any]:
        """An array whose elements the daemon reads where they lie: see Client.empty."""
        return await (await self._connection()).empty(shape, dtype)

    async def _ask(self, function: str, inputs: Dict[str, Any], attributes: Dict[str, Any], asked: Asked,
                   timeout: Optional[float]) -> Any:
        return asked.of(await self.evaluate(function, inputs, attributes, asked.outputs, timeout))

    async def function(self, name: str, timeout: Optional[float] = None) -> Callable[..., Awaitable[Any]]:
        """A function of the daemon's by its name, whose calls are awaited: see Client.function."""
        return _named.function(self, Named(name, await self.functions(name, timeout)))

    def stream(self, function: str, batches: Optional[Batches] = None,
               attributes: Optional[Mapping[str, Any]] = None, outputs: Union[str, Sequence[str]] = (),
               timeout: Optional[float] = None, window: int = 16) -> AsyncStream:
        """A data set in batches: `async for result in client.stream(name, batches): ...`, then `.summary`.
        `batches` may be iterable or asynchronously so; without it they are sent by `send`, and `finish` ends
        them. `window`: how many batches may be under way, that is sent and their results not taken."""
        kind = RepeatedAsyncStream if self.retry else AsyncStream
        return kind(self, function, batches, attributes, outputs, timeout, window)

    async def functions(self, name: str = "", timeout: Optional[float] = None) -> List[FunctionDescription]:
        """Descriptions of all functions, or of one."""
        message = wire.ListFunctionsRequest(name=name).SerializeToString()
        answer, _ = await self._unary(wire.LIST_FUNCTIONS, wire.Request(message, [], 0), timeout)
        return list(wire.decoded(wire.ListFunctionsResponse, answer).functions)

    async def status(self) -> Status:
        """proto/lossd.proto's GetStatusResponse."""
        answer, _ = await self._unary(wire.GET_STATUS, wire.Request(b"", [], 0), None)
        status: Status = wire.decoded(wire.GetStatusResponse, answer)
        return status

    async def ping(self, timeout: Optional[float] = None) -> float:
        """Seconds to the daemon and back."""
        deadline = deadline_after(timeout)
        connection = await self._connection(deadline)
        await connection.hello(deadline)
        start = time.perf_counter()
        await connection.ping(deadline)
        return time.perf_counter() - start

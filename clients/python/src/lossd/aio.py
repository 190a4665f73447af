"""The client for asyncio: every method of Client as a coroutine."""

from __future__ import annotations

from typing import Any, Awaitable, Callable, Dict, List, Mapping, Optional, Sequence, Union

import numpy as np
from numpy.typing import NDArray

from . import _named
from ._calls import Calls
from ._clock import deadline_after
from ._driver import Loop
from ._functions import Functions
from ._functions_base import Asked, WithGrad, WithGrads
from ._messages import FunctionDescription, Status
from ._named import Named
from ._streams import RepeatedBatches, Summary
from .astream import AsyncStream, Batches


class AsyncClient(Calls, Functions[Awaitable[NDArray[Any]], Awaitable[WithGrad], Awaitable[WithGrads]]):
    """A client of one daemon for one event loop at a time; thousands of calls at once. Cancelling a task cancels
    its call. It connects when it is first used, again when the connection is gone and after a fork, and tries
    again what the daemon says it never began."""

    _loop: Optional[Loop] = None

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection; calls under way raise Unavailable."""
        if self._loop is not None:
            self._loop.close()
            self._loop = None

    def _waiting(self) -> Loop:
        """Of the loop that runs."""
        if self._loop is None or not self._loop.is_usable:
            if self._loop is not None:
                self._loop.close()
            self._loop = Loop(self.address)
        return self._loop

    async def evaluate(self, function: str, inputs: Mapping[str, Any],
                       attributes: Optional[Mapping[str, Any]] = None, outputs: Union[str, Sequence[str]] = (),
                       timeout: Optional[float] = None) -> Dict[str, NDArray[Any]]:
        """One evaluation of any function: results by name. Arguments and errors are Client.evaluate's."""
        if outputs and not self.retry:
            deadline = None if timeout is None else deadline_after(timeout)
            results = await self._waiting().evaluate(function, inputs, attributes, outputs, deadline)
            if results is not None:
                return results
        return await self._evaluated(function, inputs, attributes, outputs, timeout)

    async def empty(self, shape: Any, dtype: Any = np.float32) -> NDArray[Any]:
        """An array whose elements the daemon reads where they lie: see Client.empty."""
        return await self._shared(shape, dtype)

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
        return AsyncStream(self, function, batches, attributes, outputs, timeout, window)

    async def merge(self, function: str, summaries: Sequence[Summary], attributes: Optional[Mapping[str, Any]] = None,
                    timeout: Optional[float] = None) -> Summary:
        """As `Client.merge`."""
        return await RepeatedBatches(self, function, attributes, (), timeout, 1).merge(summaries)

    async def functions(self, name: str = "", timeout: Optional[float] = None) -> List[FunctionDescription]:
        """Descriptions of all functions, or of one."""
        return await self._described(name, timeout)

    async def status(self) -> Status:
        """proto/lossd.proto's GetStatusResponse."""
        return await self._status()

    async def ping(self, timeout: Optional[float] = None) -> float:
        """Seconds to the daemon and back."""
        return await self._pinged(timeout)

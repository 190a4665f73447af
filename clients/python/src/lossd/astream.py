"""Streams for asyncio; stream.py's in coroutines."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, AsyncIterable, AsyncIterator, Dict, Iterable, Mapping, Optional, Sequence, Union

from . import _streams
from ._streams import RepeatedBatches, Summary
from .errors import Cancelled

if TYPE_CHECKING:
    from .aio import AsyncClient

Batches = Union[Iterable[Mapping[str, Any]], AsyncIterable[Mapping[str, Any]]]


class AsyncStream:
    """The evaluation of a data set. `async for` gives each batch's results by name, in order; `summary` is there
    after the last. It goes on with the next daemon when one is shut down, as Stream does. Whoever leaves before
    the end calls `cancel`, as an `async with` block does."""

    def __init__(self, client: "AsyncClient", function: str, batches: Optional[Batches],
                 attributes: Optional[Mapping[str, Any]], outputs: Union[str, Sequence[str]],
                 timeout: Optional[float], window: int):
        kind = RepeatedBatches if client.retry else _streams.Batches
        self._batches = kind(client, function, attributes, outputs, timeout, window)
        self._source = batches
        self._opening = asyncio.Lock()
        self._is_open = False
        self._sender: Optional["asyncio.Task[None]"] = None

    @property
    def summary(self) -> Optional[Summary]:
        """Of the whole data set, once the last result has been taken."""
        return self._batches.summary

    async def __aenter__(self) -> "AsyncStream":
        return self

    async def __aexit__(self, *_: Any) -> None:
        if self.summary is None:
            self.cancel()
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)

    async def _open(self) -> None:
        """When it is first used."""
        if self._is_open:
            return
        async with self._opening:
            if not self._is_open:
                await self._batches.open()
                self._is_open = True
                if self._source is not None:
                    self._sender = asyncio.ensure_future(self._send_all(self._source))

    async def _send_all(self, batches: Batches) -> None:
        number = 0
        try:
            if isinstance(batches, AsyncIterable):
                async for batch in batches:
                    await self.send(batch, number)
                    number += 1
            else:
                for batch in batches:
                    await self.send(batch, number)
                    number += 1
            await self.finish()
        except BaseException as error:
            is_cancelled = isinstance(error, asyncio.CancelledError)
            self._batches.fail(Cancelled("the stream was cancelled") if is_cancelled else error)

    async def send(self, inputs: Mapping[str, Any], id: int = 0) -> None:
        """Sends a batch, or inputs that stay (weight, pos_weight) alone, which go with the next batch; waits while
        `window` batches are under way and while the daemon takes no more. Arrays must stay as they are until the batch's
        results have been taken, those of inputs that stay until the stream has ended."""
        await self._open()
        await self._batches.send(inputs, id)

    async def finish(self) -> None:
        """No more batches."""
        await self._open()
        await self._batches.finish()

    def cancel(self) -> None:
        """Asks the daemon to stop; iterating then raises Cancelled."""
        self._batches.fail(Cancelled("the stream was cancelled"))

    def __aiter__(self) -> AsyncIterator[Dict[str, Any]]:
        return self

    async def __anext__(self) -> Dict[str, Any]:
        try:
            await self._open()
            results = await self._batches.next()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if results is None:
            raise StopAsyncIteration
        return results

"""Streams for asyncio; stream.py's in coroutines."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import (
    TYPE_CHECKING, Any, AsyncIterable, AsyncIterator, Deque, Dict, Iterable, List, Mapping, Optional, Sequence,
    Union)

from . import _wire as wire
from ._aconnection import AsyncCall, AsyncConnection, within
from ._clock import deadline_after
from ._resume import Item, Progress, Summary
from .errors import Cancelled, FailedPrecondition, Internal, LossdError, NeverBegan, Unavailable

if TYPE_CHECKING:
    from .aio import AsyncClient

Batches = Union[Iterable[Mapping[str, Any]], AsyncIterable[Mapping[str, Any]]]


class _Leg:
    """One call of EvaluateStream; a stream has several when daemons come and go."""

    def __init__(self, connection: AsyncConnection, call: AsyncCall):
        self.connection = connection
        self.call = call
        self.is_first = True
        self.summary: Optional[Summary] = None


class AsyncStream:
    """The evaluation of a data set. `async for` gives each batch's results by name, in order; `summary` is there
    after the last. It goes on with the next daemon when one is shut down, as Stream does. Whoever leaves before
    the end calls `cancel`, as an `async with` block does."""

    def __init__(self, client: "AsyncClient", function: str, batches: Optional[Batches],
                 attributes: Optional[Mapping[str, Any]], outputs: Union[str, Sequence[str]],
                 timeout: Optional[float], window: int):
        if window < 1:
            raise ValueError(f"window is {window}, expected at least 1")
        self._client = client
        self._deadline = deadline_after(timeout)
        self._progress = Progress(function, attributes, outputs)
        self._batches = batches
        self._window = window
        self._under_way = 0
        self._leg: Optional[_Leg] = None
        self._opening = asyncio.Lock()
        self._sending = asyncio.Lock()
        # One task at a time waits for what the daemon says: who takes results, or who finds that the call has ended.
        self._is_taking = False
        self._turned = asyncio.Event()
        self._taken = asyncio.Event()
        self._ready: Deque[Dict[str, Any]] = deque()
        self._sender: Optional["asyncio.Task[None]"] = None
        self._is_finished = False
        self._error: Optional[BaseException] = None
        #: Of the whole data set, once the last result has been taken.
        self.summary: Optional[Summary] = None

    async def __aenter__(self) -> "AsyncStream":
        return self

    async def __aexit__(self, *_: Any) -> None:
        if self.summary is None:
            self.cancel()
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)

    async def _begin(self) -> Any:
        """The call to send on; opened when it is first needed."""
        async with self._opening:
            if self._leg is None:
                await self._describe()
                self._leg = await self._client._retry(self._open, self._deadline)
                if self._batches is not None:
                    self._sender = asyncio.ensure_future(self._send_all(self._batches))
            return self._leg

    async def _describe(self) -> None:
        description = (await self._client.functions(self._progress.function))[0]
        self._progress.describe(description)

    async def _open(self, connection: AsyncConnection) -> _Leg:
        return _Leg(connection, await connection.open(wire.EVALUATE_STREAM, self._deadline))

    # ---- Sending

    async def _send_all(self, batches: Batches) -> None:
        try:
            number = 0
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
            self._fail(Cancelled("the stream was cancelled") if isinstance(error, asyncio.CancelledError) else error)
            self._cancel_call()

    async def send(self, inputs: Mapping[str, Any], id: int = 0) -> None:
        """Sends a batch, or inputs that stay (weight, pos_weight) alone; waits while `window` batches are under
        way and while the daemon takes no more. Arrays must stay as they are until the batch's results have been
        taken, those of inputs that stay until the stream has ended."""
        await self._begin()
        if self._error is not None:
            raise self._error
        if self._is_finished:
            raise FailedPrecondition("the stream has been finished")
        item = self._progress.item(inputs, id)
        if item.is_batch:
            while self._under_way >= self._window and self._error is None:
                self._taken.clear()
                await within(self._taken.wait(), self._deadline, "no results were taken")
            self._under_way += 1
        await self._send(item)

    async def _send(self, item: Optional[Item]) -> None:
        """`None`: the function's name alone."""
        while True:
            leg: _Leg = await self._begin()
            await self._credit(leg)
            async with self._sending:
                if leg is self._leg and not leg.call.is_over:
                    if item is not None:
                        self._progress.add(item)
                    await self._write(leg, item)
                    return
            # It has ended: what it said last decides whether there is another.
            while leg is self._leg and self._error is None and self.summary is None:
                await self._handle_next()
            if self.summary is not None:
                raise FailedPrecondition("the stream has ended")

    async def _credit(self, leg: _Leg) -> None:
        """Waits until another request may be sent, or the call has ended."""
        while leg.call.credit <= 0 and not leg.call.is_over and self._error is None:
            leg.call.changed.clear()
            await within(leg.call.changed.wait(), self._deadline, "the daemon takes no more")
        if self._error is not None:
            raise self._error

    async def _write(self, leg: _Leg, item: Optional[Item]) -> None:
        progress = self._progress
        item = item or Item({}, 0, False)
        evaluation = progress.evaluation(item, leg.is_first)
        leg.is_first = False
        connection = leg.connection
        try:
            request, item.lease = await connection.lease(evaluation, False, self._deadline)
            await connection.send(leg.call, request)
        except BaseException as error:  # Also where the task is cancelled: nobody knows then what the daemon has of it.
            self._fail(error if isinstance(error, LossdError) else Cancelled("sending a batch was interrupted"))
            connection.abandon(leg.call)
            raise

    async def finish(self) -> None:
        """No more batches."""
        while not self._is_finished:
            if (await self._begin()).is_first:
                await self._send(None)  # Without a batch the Summary still wants to know of what.
            async with self._sending:
                leg = await self._begin()
                if leg.is_first and not leg.call.is_over:
                    continue  # Another daemon's, meanwhile.
                self._is_finished = True
                if not leg.call.is_over:
                    leg.connection.half_close(leg.call)

    def cancel(self) -> None:
        """Asks the daemon to stop; iterating then raises Cancelled."""
        self._fail(Cancelled("the stream was cancelled"))
        self._cancel_call()

    def _cancel_call(self) -> None:
        if self._leg is not None:
            self._leg.connection.cancel(self._leg.call)

    def _fail(self, error: BaseException) -> None:
        """The first error stands. Who waits looks again."""
        if self._error is None and self.summary is None:
            self._error = error
            self._progress.end_leases()
            self._taken.set()
            if self._leg is not None:
                self._leg.call.changed.set()

    # ---- Taking results

    def __aiter__(self) -> AsyncIterator[Dict[str, Any]]:
        return self

    async def __anext__(self) -> Dict[str, Any]:
        try:
            await self._begin()
            while not self._ready:
                if self._error is not None:
                    raise self._error
                if self.summary is not None:
                    raise StopAsyncIteration
                await self._handle_next()
        except asyncio.CancelledError:
            self.cancel()
            raise
        self._under_way -= 1
        self._taken.set()
        return self._ready.popleft()

    async def _handle_next(self) -> None:
        """Waits for what the daemon says next and takes it in, or for another task that does."""
        if self._is_taking:
            self._turned.clear()
            await self._turned.wait()
            return
        self._is_taking = True
        try:
            await self._handle(await self._begin())
        finally:
            self._is_taking = False
            self._turned.set()

    async def _handle(self, leg: _Leg) -> None:
        try:
            message, payload, is_last = await leg.connection.receive(leg.call)
            _, arrays, summary = wire.response(message, payload)
            if summary is None:
                self._take_results(arrays)
            else:
                self._take_summary(leg, Summary.of(summary), is_last)
        except NeverBegan:
            await self._resume(leg)
        except LossdError as error:
            if isinstance(error, Unavailable) and leg.summary is not None:
                await self._resume(leg)
            else:
                self._fail(error)
                leg.connection.abandon(leg.call)

    def _take_results(self, arrays: Dict[str, Any]) -> None:
        try:
            self._progress.answered()
        except IndexError:
            raise Internal("the daemon answered a batch that was not sent") from None
        self._ready.append(arrays)

    def _take_summary(self, leg: _Leg, summary: Summary, is_last: bool) -> None:
        total = self._progress.check(summary, is_last, self._is_finished)
        if total is None:
            leg.summary = summary
        else:
            self.summary = total

    async def _resume(self, ended: _Leg) -> None:
        """Goes on with the next daemon, from the batch after the last answered one."""
        async with self._sending:
            self._progress.carry(ended.summary)
            self._progress.end_leases()
            leg: Optional[_Leg] = None
            while leg is None and self._error is None:
                try:
                    leg = await self._client._retry(self._open, self._deadline, is_restarting=True)
                    await self._send_again(leg)
                except NeverBegan:
                    leg = None
                except LossdError as error:
                    self._fail(error)
                    return
            if leg is not None:
                self._leg = leg

    async def _send_again(self, leg: _Leg) -> None:
        items: List[Optional[Item]] = [*self._progress.again()]
        for item in items or ([None] if self._is_finished else []):
            await self._credit(leg)
            if leg.call.is_over:
                break  # Another end: it is handled as the first one was.
            await self._write(leg, item)
        if self._is_finished and not leg.call.is_over:
            leg.connection.half_close(leg.call)

"""_restream.py's in coroutines."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import contextmanager
from typing import Any, Deque, Dict, Iterator, Optional, Tuple

from . import _wire as wire
from ._aconnection import AsyncCall, AsyncConnection, within
from ._resume import Item, Summary
from ._restream import Answer, Sums
from ._retry import Outage
from .astream import AsyncStream
from .errors import Cancelled, LossdError, Unavailable


class _Part:
    """A batch, and the call that evaluates it and nothing else."""

    def __init__(self, item: Item, outage: Outage):
        self.item = item
        self.outage = outage
        self.connection: Optional[AsyncConnection] = None
        self.call: Optional[AsyncCall] = None

    def end_lease(self) -> None:
        call = self.call
        if call is not None and call.lease is not None and not call.is_abandoned:
            call.lease.end(is_safe=True)

    def abandon(self) -> None:
        if self.connection is not None and self.call is not None:
            self.connection.abandon(self.call)


class RepeatedAsyncStream(AsyncStream):
    """Each batch is a call of its own, which is repeated while the daemon is away. Its results are given only when its
    sums have come too, so that each batch counts once."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self._parts: Deque[_Part] = deque()
        self._sums = Sums()
        self._taking = asyncio.Lock()
        self._changed = asyncio.Event()
        self._is_described = False

    async def _begin(self) -> Any:
        """Knows which inputs stay, before the first is sent."""
        async with self._opening:
            if not self._is_described:
                await self._describe()
                self._is_described = True
                if self._batches is not None:
                    self._sender = asyncio.ensure_future(self._send_all(self._batches))

    # ---- Sending

    async def _send(self, item: Optional[Item]) -> None:
        if item is None:
            return
        async with self._sending:
            whole = self._progress.keep(item)
            if item.is_batch:
                await self._add(whole)

    async def _add(self, item: Item) -> None:
        part = _Part(item, self._client._outage(self._deadline))
        try:
            await self._open_part(part)
        except BaseException:
            part.abandon()
            raise
        self._parts.append(part)
        self._changed.set()
        if self._error is not None:  # It was cancelled meanwhile.
            part.abandon()

    async def _open_part(self, part: _Part) -> None:
        evaluation = self._progress.evaluation(part.item, is_first=True)

        async def attempt(connection: AsyncConnection) -> Tuple[AsyncConnection, AsyncCall]:
            request, lease = await connection.lease(evaluation, False, self._deadline)
            try:
                return connection, await connection.open(wire.EVALUATE_STREAM, self._deadline, request, lease)
            except BaseException:
                if lease is not None:
                    lease.end(is_safe=False)
                raise

        part.connection, part.call = await self._client._retry(attempt, self._deadline, outage=part.outage)

    async def finish(self) -> None:
        """No more batches."""
        await self._begin()
        async with self._sending:
            if not self._is_finished:
                if self._sums.is_empty and not self._parts:
                    await self._add(self._progress.keep(Item({}, 0, False)))  # What torch gives for nothing.
                self._is_finished = True
        self._changed.set()

    def _cancel_call(self) -> None:
        for part in list(self._parts):
            part.abandon()

    def _fail(self, error: BaseException) -> None:
        super()._fail(error)
        self._changed.set()

    # ---- Taking results

    async def __anext__(self) -> Dict[str, Any]:
        try:
            async with self._taking:
                await self._begin()
                while True:
                    part = await self._next_part()
                    if part is None:
                        await self._merge(is_last=True)
                        if self.summary is None:
                            self.summary = self._sums.total()
                        raise StopAsyncIteration
                    answer = await self._take(part)
                    if part.item.is_batch:
                        self._under_way -= 1
                        self._taken.set()
                        return answer.results
        except asyncio.CancelledError:
            self.cancel()
            raise

    async def _next_part(self) -> Optional[_Part]:
        while True:
            if self._error is not None:
                raise self._error
            if self._parts:
                return self._parts[0]
            if self._is_finished:
                return None
            self._changed.clear()
            await within(self._changed.wait(), self._deadline, "the stream did not end")

    async def _take(self, part: _Part) -> Answer:
        with self._failing():
            answer, summary = await self._answered(part)
            self._sums.add(summary, part.item.is_batch)
        await self._merge(is_last=False)
        self._parts.popleft()
        return answer

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """What goes wrong within ends the stream."""
        try:
            yield
        except BaseException as error:
            self._fail(error if isinstance(error, LossdError) else Cancelled("the stream was cancelled"))
            self._cancel_call()
            raise

    async def _merge(self, is_last: bool) -> None:
        """Has the daemon merge the batches' Summaries, where it is time."""
        item = self._sums.due(is_last)
        if item is None:
            return
        with self._failing():
            part = _Part(item, self._client._outage(self._deadline))
            await self._open_part(part)
            self._sums.merged((await self._answered(part))[1])

    async def _answered(self, part: _Part) -> Tuple[Answer, Summary]:
        """The part's answer, from whichever daemon gives it."""
        while True:
            try:
                answer = await self._receive(part)
                break
            except Unavailable as error:
                part.end_lease()
                await asyncio.sleep(part.outage.after(error, True))
                if self._error is not None:
                    raise self._error
                await self._open_part(part)
        part.end_lease()
        return answer

    async def _receive(self, part: _Part) -> Tuple[Answer, Summary]:
        assert part.connection is not None and part.call is not None
        answer = Answer()
        while True:
            summary = answer.take(*await part.connection.receive(part.call), part.item.is_batch)
            if summary is not None:
                return answer, summary

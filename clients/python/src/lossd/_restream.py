"""Streams of a client with `retry`: they live through crashes too."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import Any, Deque, Dict, Iterator, List, Optional, Tuple

from . import _wire as wire
from ._clock import left_until
from ._connection import Call, Connection
from ._resume import Item, Summary
from ._retry import Outage
from .errors import DeadlineExceeded, FailedPrecondition, Internal, LossdError, Unavailable
from .stream import Stream


class Sums:
    """What the batches came to, one Summary each, in order; the daemon merges so many at a time."""

    #: Summaries that one request may bring.
    PARTS_MAX = 256

    def __init__(self) -> None:
        self._parts: List[Summary] = []

    def add(self, summary: Summary, is_batch: bool) -> None:
        """Internal where it is none of one batch."""
        if summary.batches != is_batch:
            raise Internal(f"the daemon's summary is of {summary.batches} batches, it has answered {int(is_batch)}")
        self._parts.append(summary)

    def due(self, is_last: bool) -> Optional[Item]:
        """The request that merges what has been added, where it is time; `is_last`: nothing more is added."""
        count = len(self._parts)
        is_due = count > 1 if is_last else count >= self.PARTS_MAX
        return Item({}, 0, False, tuple(self._parts)) if is_due else None

    def merged(self, summary: Summary) -> None:
        """Internal where it is not of what has been added."""
        count = sum(part.batches for part in self._parts)
        if summary.batches != count:
            raise Internal(f"the daemon's summary is of {summary.batches} batches, {count} have been answered")
        self._parts = [summary]

    @property
    def is_empty(self) -> bool:
        return not self._parts

    def total(self) -> Summary:
        if len(self._parts) != 1:
            raise Internal("the daemon did not say what the stream came to")
        return self._parts[0]


class Answer:
    """Of a batch: its results, then its Summary."""

    def __init__(self) -> None:
        self.results: Dict[str, Any] = {}
        self._has_results = False

    def take(self, message: bytes, payload: memoryview, is_last: bool, is_batch: bool) -> Optional[Summary]:
        """The Summary, when all has come."""
        _, arrays, summary = wire.response(message, payload)
        if summary is None:
            if self._has_results or not is_batch or is_last:
                raise Internal("the daemon answered a batch that was not sent")
            self._has_results, self.results = True, arrays
            return None
        if not is_last or self._has_results != is_batch:
            raise Internal("the daemon ended the stream before all batches were answered")
        return Summary.of(summary)


class _Part:
    """A batch, and the call that evaluates it and nothing else."""

    def __init__(self, item: Item, outage: Outage):
        self.item = item
        self.outage = outage
        self.connection: Optional[Connection] = None
        self.call: Optional[Call] = None

    def end_lease(self) -> None:
        call = self.call
        if call is not None and call.lease is not None and not call.is_abandoned:
            call.lease.end(is_safe=True)

    def abandon(self) -> None:
        if self.connection is not None and self.call is not None:
            self.connection.abandon(self.call)


class RepeatedStream(Stream):
    """Each batch is a call of its own, which is repeated while the daemon is away. Its results are given only when its
    sums have come too, so that each batch counts once."""

    def _begin(self) -> None:
        # Nothing is opened yet.
        self._parts: Deque[_Part] = deque()
        self._sums = Sums()
        self._taking = threading.Lock()

    # ---- Sending

    def _send(self, item: Optional[Item]) -> None:
        if item is None:
            return
        with self._sending:
            whole = self._progress.keep(item)
            if item.is_batch:
                self._add(whole)

    def _add(self, item: Item) -> None:
        part = _Part(item, self._client._outage(self._deadline))
        try:
            self._open_part(part)
            with self._turn:
                self._parts.append(part)
                self._turn.notify_all()
        except BaseException:
            part.abandon()
            raise
        if self._error is not None:  # It was cancelled meanwhile.
            part.abandon()

    def _open_part(self, part: _Part) -> None:
        evaluation = self._progress.evaluation(part.item, is_first=True)

        def attempt(connection: Connection) -> Tuple[Connection, Call]:
            request, lease = connection.lease(evaluation, False, self._deadline)
            try:
                return connection, connection.open(
                    wire.EVALUATE_STREAM, self._deadline, request, lease)
            except BaseException:
                if lease is not None:
                    lease.end(is_safe=False)
                raise

        part.connection, part.call = self._client._retry(attempt, self._deadline, outage=part.outage)

    def finish(self) -> None:
        """No more batches."""
        with self._sending:
            if not self._is_finished:
                if self._sums.is_empty and not self._parts:
                    self._add(self._progress.keep(Item({}, 0, False)))  # What torch gives for nothing.
                self._is_finished = True
        with self._turn:
            self._turn.notify_all()

    def _cancel_calls(self) -> None:
        for part in list(self._parts):
            part.abandon()

    def _release_credit(self) -> None:
        pass

    # ---- Taking results

    def __next__(self) -> Dict[str, Any]:
        with self._taking:
            while True:
                part = self._next_part()
                if part is None:
                    self._merge(is_last=True)
                    if self.summary is None:
                        self.summary = self._sums.total()
                    raise StopIteration
                answer = self._take(part)
                if part.item.is_batch:
                    return answer.results

    def _next_part(self) -> Optional[_Part]:
        with self._turn:
            while True:
                if self._error is not None:
                    raise self._error
                if self._parts:
                    return self._parts[0]
                if self._is_finished:
                    return None
                if not self._turn.wait(left_until(self._deadline)) and left_until(self._deadline) == 0:
                    raise DeadlineExceeded("the stream's timeout is over")

    def _take(self, part: _Part) -> Answer:
        with self._failing():
            answer, summary = self._answered(part)
            self._sums.add(summary, part.item.is_batch)
        self._merge(is_last=False)
        self._parts.popleft()
        if part.item.is_batch:
            self._room.release()
        return answer

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """What goes wrong within ends the stream."""
        try:
            yield
        except BaseException as error:
            self._fail(error if isinstance(error, LossdError) else FailedPrecondition("the stream was interrupted"))
            self._cancel_calls()
            raise

    def _merge(self, is_last: bool) -> None:
        """Has the daemon merge the batches' Summaries, where it is time."""
        item = self._sums.due(is_last)
        if item is None:
            return
        with self._failing():
            part = _Part(item, self._client._outage(self._deadline))
            self._open_part(part)
            self._sums.merged(self._answered(part)[1])

    def _answered(self, part: _Part) -> Tuple[Answer, Summary]:
        """The part's answer, from whichever daemon gives it."""
        while True:
            try:
                answer = self._receive(part)
                break
            except Unavailable as error:
                part.end_lease()
                time.sleep(part.outage.after(error, True))
                if self._error is not None:
                    raise self._error
                self._open_part(part)
        part.end_lease()
        return answer

    def _receive(self, part: _Part) -> Tuple[Answer, Summary]:
        assert part.connection is not None and part.call is not None
        answer = Answer()
        while True:
            summary = answer.take(*part.connection.receive(part.call), part.item.is_batch)
            if summary is not None:
                return answer, summary

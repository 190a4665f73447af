"""What both clients' streams do, threads' and asyncio's: all but waiting."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Deque, Dict, List, Mapping, Optional, Sequence, Tuple

from . import _core, _schema, _values
from ._calls import Attempt, decoded, plain
from ._clock import deadline_after
from ._driver import CANCELLED, microseconds
from .errors import Cancelled, FailedPrecondition, Internal, LossdError

if TYPE_CHECKING:
    from ._calls import Calls

#: Summaries that one request may bring.
PARTS_MAX = 256


class Summary:
    """What a stream came to: `batches`, `rows`, `values` (`loss`) and `state`, the sums behind it, rounded."""

    def __init__(self, batches: int, rows: int, values: Dict[str, float], state: Dict[str, float], message: bytes = b""):
        self.batches = batches
        self.rows = rows
        self.values = values
        self.state = state
        self._message = message

    @classmethod
    def of(cls, message: bytes) -> "Summary":
        found = decoded("Summary", message)
        return cls(found.batches, found.rows, dict(found.values), dict(found.state), bytes(message))

    def to_bytes(self) -> bytes:
        """All of it, the sums not rounded: proto/lossd.proto's Summary, for `from_bytes` and `Client.merge`, here or
        elsewhere."""
        if not self._message:
            message = _schema.message("Summary")(batches=self.batches, rows=self.rows, values=self.values, state=self.state)
            self._message = message.SerializeToString()
        return self._message

    @classmethod
    def from_bytes(cls, data: bytes) -> "Summary":
        """What `to_bytes` gave; ValueError where it is nothing of the kind. The daemon checks the sums when it merges."""
        try:
            return cls.of(data)
        except LossdError as error:
            raise ValueError("no Summary") from error

    @property
    def loss(self) -> float:
        """What one call over the whole data set would have returned; KeyError for reduction="none" and for
        activations."""
        return self.values["loss"]

    def __repr__(self) -> str:
        return (f"Summary(batches={self.batches}, rows={self.rows}, values={self.values}, "
                f"state={self.state})")


class Batches:
    """A data set's batches, in one stream of the daemon's, which goes on with the next daemon when one is shut down."""

    def __init__(self, client: "Calls", function: Any, attributes: Optional[Mapping[str, Any]], outputs: Any,
                 timeout: Optional[float], window: int):
        if window < 1:
            raise ValueError(f"window is {window}, expected at least 1")
        self._client = client
        self._function = _values.function_name(function)
        self._attributes, self._outputs = _values.attributes(attributes), _values.names(outputs)
        self._deadline = deadline_after(timeout)
        self._window = window
        #: Names of inputs that stay from one batch to the next.
        self._kept: Sequence[str] = ()
        #: Those that have been given since the last batch, and go with the next.
        self._brought: Dict[str, Any] = {}
        self.is_finished = False
        self.error: Optional[BaseException] = None
        #: Of the whole data set, once the last result has been taken.
        self.summary: Optional[Summary] = None
        self._is_open = False

    async def open(self) -> None:
        self._waiting = self._client._waiting()
        self._token = self._waiting.token()
        self._stream: _core.Stream = plain(self._waiting.core.stream(
            self._function, self._attributes, self._outputs, microseconds(self._deadline), self._token, self._window))
        self._is_open = True
        self._waiting.begun()
        await self._waiting.until(self._stream, _core.READY, self._token)
        self.check()
        self._kept = self._stream.keeps()

    def check(self) -> None:
        """Raises what the stream ended with."""
        if self.error is not None:
            raise self.error
        self._stream.check()

    async def send(self, inputs: Any, id: int) -> None:
        self.check()
        if self.is_finished:
            raise FailedPrecondition("the stream has been finished")
        arrays = _values.arrays(inputs)
        if all(name in self._kept for name in arrays):
            self._brought.update(arrays)
            return
        await self._send({**self._brought, **arrays}, id)
        self._brought = {}

    async def _send(self, arrays: Dict[str, Any], id: int) -> None:
        waiting, stream = self._waiting, self._stream
        await waiting.until(stream, _core.ROOM, self._token)
        self.check()
        plain(stream.add(arrays, id) or None)
        waiting.begun()
        await waiting.until(stream, _core.SENT, self._token)
        self.check()

    async def finish(self) -> None:
        if not self.is_finished:
            self.is_finished = True
            self._stream.finish()
            self._waiting.changed(self._token)

    async def next(self) -> Optional[Dict[str, Any]]:
        """The next batch's results; None: that was all, and `summary` is there."""
        while True:
            await self._waiting.until(self._stream, _core.ANSWERED, self._token)
            results = self._stream.take()
            if results is not None:
                self._waiting.changed(self._token)
                return results
            self.check()
            message = self._stream.summary()
            if message is not None:
                self.summary = Summary.of(message)
                return None

    def fail(self, error: BaseException) -> None:
        """The first error stands. Who waits looks again."""
        if self.error is None and self.summary is None:
            self.error = error
            self._stop()

    def _stop(self) -> None:
        if self._is_open:
            self._stream.fail(CANCELLED, "the stream was cancelled")
            self._waiting.changed(self._token)


class _Part:
    """A batch, and the call that evaluates it and nothing else."""

    def __init__(self, batches: "RepeatedBatches", arrays: Dict[str, Any], id: int, summaries: Sequence[Summary] = ()):
        message = _schema.message("EvaluateRequest")()
        for summary in summaries:
            part = message.summaries.add()
            part.MergeFromString(summary.to_bytes())
            part.ClearField("values")
            if part.HasField("whole"):
                part.ClearField("state")  # The same, rounded; a request has only so many fields.
        before = message.SerializeToString()
        self.is_batch = bool(arrays)

        def begin(driver: _core.Driver, token: int) -> _core.Call:
            call: _core.Call = plain(driver.part(
                batches._function, arrays, batches._attributes, batches._outputs, microseconds(batches._deadline),
                token, id, before))
            return call

        self._attempt = Attempt(batches._client, begin, batches._deadline, is_left=True)

    async def answer(self) -> Tuple[Dict[str, Any], Summary]:
        results = await self._attempt.result()
        return results, Summary.of(self._attempt.call.answer())

    def abandon(self) -> None:
        self._attempt.is_cancelled = True
        self._attempt.call.cancel()


class RepeatedBatches(Batches):
    """Of a client with `retry`: each batch is a call of its own, which is repeated while the daemon is away. Its
    results are given only when its sums have come too, so that each batch counts once."""

    async def open(self) -> None:
        description, = await self._client._described(self._function, None)
        self._kept = [item.name for item in description.inputs if item.kept]
        self._turns = self._client._waiting().turns()
        self._staying: Dict[str, Any] = {}
        self._parts: Deque[_Part] = deque()
        #: What the batches came to, one Summary each, in order; the daemon merges so many at a time.
        self._sums: List[Summary] = []
        self._is_open = True

    def check(self) -> None:
        if self.error is not None:
            raise self.error

    async def _send(self, arrays: Dict[str, Any], id: int) -> None:
        await self._until(lambda: len(self._parts) < self._window)
        self._staying.update({name: value for name, value in arrays.items() if name in self._kept})
        self._parts.append(_Part(self, {**self._staying, **arrays}, id))
        self._turns.changed()

    async def _until(self, holds: Any) -> None:
        try:
            await self._turns.until(lambda: self.error is not None or holds(), self._deadline)
        except LossdError as error:
            self.fail(error)
        self.check()

    async def finish(self) -> None:
        if not self.is_finished:
            if not self._sums and not self._parts:
                self._parts.append(_Part(self, {}, 0))  # What torch gives for nothing.
            self.is_finished = True
            self._turns.changed()

    async def next(self) -> Optional[Dict[str, Any]]:
        async with self._turns:
            while self.summary is None:
                await self._until(lambda: self._parts or self.is_finished)
                try:
                    results = await self._take()
                except BaseException as error:
                    self.fail(error if isinstance(error, LossdError) else Cancelled("the stream was interrupted"))
                    raise
                if results is not None:
                    return results
            return None

    async def _take(self) -> Optional[Dict[str, Any]]:
        """The oldest batch's results; None: it was none, or there is no other and `summary` is there."""
        if not self._parts:
            await self._merge(least=2)
            if len(self._sums) != 1:
                raise Internal("the daemon did not say what the stream came to")
            self.summary, = self._sums
            return None
        part = self._parts[0]
        results, summary = await part.answer()
        if self.error is not None:
            raise self.error
        if summary.batches != part.is_batch:
            raise Internal(
                f"the daemon's summary is of {summary.batches} batches, it has answered {int(part.is_batch)}")
        self._sums.append(summary)
        await self._merge(least=PARTS_MAX)
        self._parts.popleft()
        self._turns.changed()
        return results if part.is_batch else None

    async def merge(self, summaries: Sequence[Summary]) -> Summary:
        """What parts came to together."""
        self._sums = list(summaries)
        if not self._sums:
            raise ValueError("no Summary is given")
        rest, self._sums = self._sums[PARTS_MAX:], self._sums[:PARTS_MAX]
        await self._merge(least=1)
        while rest:
            self._sums += rest[:PARTS_MAX - 1]
            rest = rest[PARTS_MAX - 1:]
            await self._merge(least=1)
        return self._sums[0]

    async def _merge(self, least: int) -> None:
        """Has the daemon merge the batches' Summaries, where there are so many."""
        if len(self._sums) < least:
            return
        _, merged = await _Part(self, {}, 0, self._sums).answer()
        count = sum(part.batches for part in self._sums)
        if merged.batches != count:
            raise Internal(f"the daemon's summary is of {merged.batches} batches, {count} have been answered")
        self._sums = [merged]

    def _stop(self) -> None:
        if self._is_open:
            for part in list(self._parts):
                part.abandon()
            self._turns.changed()

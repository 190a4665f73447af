"""Streams for threads: a data set in batches, sent by one thread and taken by another, or by the same one."""

from __future__ import annotations

import threading
from collections import deque
from typing import (
    TYPE_CHECKING, Any, Callable, Deque, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Union)

from . import _wire as wire
from ._clock import GRACE, deadline_after, left_until
from ._connection import Call, Connection
from ._resume import Item, Progress, Summary
from .errors import (
    Cancelled, DeadlineExceeded, FailedPrecondition, Internal, LossdError, NeverBegan, Unavailable)

if TYPE_CHECKING:
    from .client import Client


class _Leg:
    """One call of EvaluateStream; a stream has several when daemons come and go."""

    def __init__(self, connection: Connection, call: Call):
        self.connection = connection
        self.call = call
        #: Nothing has been sent on it: the next request names the function.
        self.is_first = True
        #: How far a daemon that is shut down had come.
        self.summary: Optional[Summary] = None


class Stream:
    """The evaluation of a data set. Iterating gives each batch's results by name, in order; `summary` is there
    after the last.

    When the daemon is shut down in between it says how far it came: the stream goes on with the next one at the
    same address, from the batch after, and adds the sums up, so that each batch counts once. One thread may send
    while another iterates. Whoever leaves before the end calls `cancel`, as a `with` block does.
    """

    def __init__(self, client: "Client", function: str, batches: Optional[Iterable[Mapping[str, Any]]],
                 attributes: Optional[Mapping[str, Any]], outputs: Union[str, Sequence[str]],
                 timeout: Optional[float], window: int):
        if window < 1:
            raise ValueError(f"window is {window}, expected at least 1")
        self._client = client
        self._deadline = deadline_after(timeout)
        self._progress = Progress(function, attributes, outputs)
        self._progress.describe(client.functions(function)[0])
        # Batches that may still be sent before results are taken.
        self._room = threading.Semaphore(window)
        # Held while a request is added to what is under way and written: by who sends, or by who resumes.
        self._sending = threading.Lock()
        # One thread at a time waits for what the daemon says: who takes results, or who finds that the call has ended.
        self._turn = threading.Condition()
        self._is_taking = False
        self._ready: Deque[Dict[str, Any]] = deque()
        self._is_finished = False
        self._error: Optional[BaseException] = None
        #: Of the whole data set, once the last result has been taken.
        self.summary: Optional[Summary] = None
        self._opened: Deque[Any] = deque(maxlen=2)
        try:
            self._begin()
            if batches is not None:
                threading.Thread(target=self._send_all, args=(batches,), name="lossd-sender", daemon=True).start()
        except BaseException:  # Ctrl-C, or there are no more threads.
            for connection, call in self._opened:
                connection.abandon(call)
            raise

    def _begin(self) -> None:
        self._leg = self._client._retry(self._open, self._deadline)

    def __enter__(self) -> "Stream":
        return self  # __enter__

    def __exit__(self, *_: Any) -> None:
        if self.summary is None:
            try:
                self.cancel()
            finally:  # What Ctrl-C did not let it do.
                self.cancel()

    def _open(self, connection: Connection) -> _Leg:
        return _Leg(connection, connection.open(wire.EVALUATE_STREAM, self._deadline, opened=self._opened))

    # ---- Sending

    def _send_all(self, batches: Iterable[Mapping[str, Any]]) -> None:
        try:
            for number, batch in enumerate(batches):
                self.send(batch, id=number)
            self.finish()
        except BaseException as error:
            self._fail(error)
            self._cancel_calls()

    def _cancel_calls(self) -> None:
        leg = self._leg
        leg.connection.cancel(leg.call)

    def send(self, inputs: Mapping[str, Any], id: int = 0) -> None:
        """Sends a batch, or inputs that stay (weight, pos_weight) alone; waits while `window` batches are under
        way and while the daemon takes no more. Arrays must stay as they are until the batch's results have been
        taken, those of inputs that stay until the stream has ended."""
        if self._error is not None:
            raise self._error
        if self._is_finished:
            raise FailedPrecondition("the stream has been finished")
        item = self._progress.item(inputs, id)
        if item.is_batch:
            self._wait(self._room)
        self._send(item)

    def _send(self, item: Optional[Item]) -> None:
        """`None`: the function's name alone."""
        while True:
            leg = self._leg
            self._wait(leg.call.credit)
            with self._sending:
                if leg is self._leg and not leg.call.is_over:
                    if item is not None:
                        self._progress.add(item)
                    self._write(leg, item)
                    return
            leg.call.credit.release()
            # It has ended: what it said last decides whether there is another.
            while leg is self._leg and self._error is None and self.summary is None:
                self._handle_next(lambda: leg is self._leg)
            if self.summary is not None:
                raise FailedPrecondition("the stream has ended")

    def _write(self, leg: _Leg, item: Optional[Item]) -> None:
        progress = self._progress
        item = item or Item({}, 0, False)
        evaluation = progress.evaluation(item, leg.is_first)
        leg.is_first = False
        connection = leg.connection
        try:
            request, item.lease = connection.lease(evaluation, False, self._deadline)
            connection.send(leg.call, request)
        except BaseException as error:  # Also Ctrl-C: nobody knows then what the daemon has of it.
            self._fail(error if isinstance(error, LossdError) else Cancelled("sending a batch was interrupted"))
            connection.abandon(leg.call)
            raise

    def finish(self) -> None:
        """No more batches."""
        while not self._is_finished:
            if self._leg.is_first:
                self._send(None)  # Without a batch the Summary still wants to know of what.
            with self._sending:
                leg = self._leg
                if leg.is_first and not leg.call.is_over:
                    continue  # Another daemon's, meanwhile.
                self._is_finished = True
                if not leg.call.is_over:
                    leg.connection.half_close(leg.call)

    def cancel(self) -> None:
        """Asks the daemon to stop; iterating then raises Cancelled."""
        self._fail(Cancelled("the stream was cancelled"))
        self._cancel_calls()

    def _wait(self, semaphore: threading.Semaphore) -> None:
        left = left_until(self._deadline)
        if not semaphore.acquire(timeout=None if left is None else left + GRACE):
            self._fail(DeadlineExceeded("the stream's timeout is over"))
        if self._error is not None:
            semaphore.release()
            raise self._error

    def _fail(self, error: BaseException) -> None:
        """The first error stands. Who waits to send looks again."""
        if self._error is None and self.summary is None:
            self._error = error
            self._progress.end_leases()
            self._room.release()
            self._release_credit()
            with self._turn:
                self._turn.notify_all()

    def _release_credit(self) -> None:
        self._leg.call.credit.release()

    # ---- Taking results

    def __iter__(self) -> Iterator[Dict[str, Any]]:
        return self

    def __next__(self) -> Dict[str, Any]:
        while not self._ready:
            if self._error is not None:
                raise self._error
            if self.summary is not None:
                raise StopIteration
            self._handle_next(lambda: not self._ready)
        self._room.release()
        return self._ready.popleft()

    def _handle_next(self, is_wanted: Callable[[], bool]) -> None:
        """Waits for what the daemon says next and takes it in, unless another thread has done so meanwhile."""
        with self._turn:
            while self._is_taking and is_wanted() and self._error is None:
                self._turn.wait()
            if self._is_taking or not is_wanted():
                return
            self._is_taking = True
        try:
            self._handle()
        finally:
            with self._turn:
                self._is_taking = False
                self._turn.notify_all()

    def _handle(self) -> None:
        leg = self._leg
        try:
            message, payload, is_last = leg.connection.receive(leg.call)
            _, arrays, summary = wire.response(message, payload)
            if summary is None:
                self._take_results(arrays)
            else:
                self._take_summary(leg, Summary.of(summary), is_last)
        except NeverBegan:
            self._resume()
        except LossdError as error:
            if isinstance(error, Unavailable) and leg.summary is not None:
                self._resume()
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

    def _resume(self) -> None:
        """Goes on with the next daemon, from the batch after the last answered one."""
        with self._sending:
            self._progress.carry(self._leg.summary)
            self._progress.end_leases()
            leg: Optional[_Leg] = None
            while leg is None and self._error is None:
                try:
                    leg = self._client._retry(self._open, self._deadline, is_restarting=True)
                    self._send_again(leg)
                except NeverBegan:
                    leg = None
                except LossdError as error:
                    self._fail(error)
                    return
            if leg is not None:
                self._leg = leg

    def _send_again(self, leg: _Leg) -> None:
        items: List[Optional[Item]] = [*self._progress.again()]
        for item in items or ([None] if self._is_finished else []):
            self._wait(leg.call.credit)
            if leg.call.is_over:
                break  # Another end: it is handled as the first one was.
            self._write(leg, item)
        if self._is_finished and not leg.call.is_over:
            leg.connection.half_close(leg.call)

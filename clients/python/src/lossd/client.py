"""The client for threads."""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, TypeVar

from . import _wire as wire
from ._connection import Call, Connection
from ._functions import Functions, unwrap
from .errors import LossdError, NeverBegan, Unavailable

T = TypeVar("T")
_TRIES = 100
_PAUSE = 0.1


class Summary:
    """What a stream came to: `batches`, `rows`, `values` (`loss`) and `state`, the sums behind it."""

    def __init__(self, message: Any):
        self.batches: int = message.batches
        self.rows: int = message.rows
        self.values: Dict[str, float] = dict(message.values)
        self.state: Dict[str, float] = dict(message.state)

    @property
    def loss(self) -> float:
        return self.values["loss"]

    def __repr__(self) -> str:
        return (f"Summary(batches={self.batches}, rows={self.rows}, values={self.values}, "
                f"state={self.state})")


class Client(Functions):
    """A client of one daemon; any thread, many calls at once.

    It connects when it is first used, again when the connection is gone and after a fork, and tries again
    what the daemon says it never began.
    """

    def __init__(self, address: str):
        wire.parse_address(address)
        self.address = address
        self._lock = threading.Lock()
        self._current: Optional[Connection] = None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; calls under way raise Unavailable."""
        with self._lock:
            if self._current is not None:
                self._current.close()
                self._current = None

    def _connection(self) -> Connection:
        if self._current is not None and self._current.process != os.getpid():
            # A child: the lock may have been held in the parent, the connection is not ours.
            self._lock = threading.Lock()
            self._current.close()
            self._current = None
        with self._lock:
            if self._current is None or not self._current.is_usable:
                self._current = Connection(self.address)
            return self._current

    def _retry(self, attempt: Callable[[Connection], T]) -> T:
        for tries in range(_TRIES):
            try:
                connection = self._connection()
            except Unavailable:
                # A daemon that is being restarted comes back; one that never was there is an error.
                if tries == 0:
                    raise
                time.sleep(_PAUSE)
                continue
            try:
                return attempt(connection)
            except NeverBegan:
                time.sleep(_PAUSE if tries else 0)
        raise Unavailable(f"{self.address}: the daemon keeps shutting down")

    def _unary(self, method: str, message: bytes, parts: List[Any], length: int,
               timeout: Optional[float]) -> Tuple[bytes, memoryview]:
        def attempt(connection: Connection) -> Tuple[bytes, memoryview]:
            call = connection.open(method, timeout)
            try:
                connection.send(call, message, parts, length, last=True)
                answer, payload, _ = connection.receive(call)
            except KeyboardInterrupt:
                connection.cancel(call)
                raise
            return answer, payload

        return self._retry(attempt)

    def evaluate(self, function: str, inputs: Dict[str, Any],
                 attributes: Optional[Dict[str, Any]] = None, outputs: Sequence[str] = (),
                 timeout: Optional[float] = None) -> Dict[str, Any]:
        """One evaluation of any function: results by name."""
        answer, payload = self._unary(
            wire.EVALUATE, *wire.request(function, inputs, attributes, outputs, 1), timeout)
        return wire.response(answer, payload)[1]

    def _call(self, function: str, inputs: Dict[str, Any], attributes: Dict[str, Any],
              outputs: Sequence[str], timeout: Optional[float]) -> Any:
        return unwrap(self.evaluate(function, inputs, attributes, outputs, timeout), outputs)

    def stream(self, function: str, batches: Optional[Iterable[Dict[str, Any]]] = None,
               attributes: Optional[Dict[str, Any]] = None, outputs: Sequence[str] = (),
               timeout: Optional[float] = None, window: int = 8) -> "Stream":
        """A data set in batches: `for result in client.stream(name, batches): ...`, then `.summary`.

        Without `batches` they are sent by `send`, and `finish` ends them. `window`: how many results the
        daemon may be ahead.
        """
        connection, call = self._retry(lambda connection: (
            connection, connection.open(wire.EVALUATE_STREAM, timeout, window)))
        return Stream(connection, call, function, batches, attributes, outputs)

    def functions(self, name: str = "") -> List[Any]:
        """Descriptions (proto/lossd.proto's Function) of all functions, or of one."""
        message = wire.ListFunctionsRequest(name=name).SerializeToString()
        answer, _ = self._unary(wire.LIST_FUNCTIONS, message, [], 0, None)
        return list(wire.ListFunctionsResponse.FromString(answer).functions)

    def status(self) -> Any:
        """proto/lossd.proto's GetStatusResponse."""
        return wire.GetStatusResponse.FromString(self._unary(wire.GET_STATUS, b"", [], 0, None)[0])

    def ping(self) -> float:
        """Seconds to the daemon and back."""
        connection = self._connection()
        connection.hello()
        start = time.perf_counter()
        connection.ping()
        return time.perf_counter() - start


class Stream:
    """The evaluation of a data set. Iterating gives each batch's results by name, in order."""

    def __init__(self, connection: Connection, call: Call, function: str,
                 batches: Optional[Iterable[Dict[str, Any]]], attributes: Optional[Dict[str, Any]],
                 outputs: Sequence[str]):
        self._connection = connection
        self._call = call
        self._first: Optional[Tuple[str, Optional[Dict[str, Any]], Sequence[str]]] = (
            function, attributes, outputs)
        self._is_finished = False
        self._failure: Optional[BaseException] = None
        #: Of the whole data set, once the last result has been taken.
        self.summary: Optional[Summary] = None
        if batches is not None:
            threading.Thread(
                target=self._send_all, args=(batches,), name="lossd-sender", daemon=True).start()

    def _send_all(self, batches: Iterable[Dict[str, Any]]) -> None:
        try:
            for number, batch in enumerate(batches):
                if self._call.is_over:
                    return
                self.send(batch, id=number)
            self.finish()
        except LossdError:
            pass  # The reader finds out what ended the call.
        except BaseException as failure:
            self._failure = failure
            self.cancel()

    def send(self, inputs: Dict[str, Any], id: int = 0) -> None:
        """Sends a batch, or inputs that stay (weight, pos_weight) alone; waits for credit."""
        function, attributes, outputs = self._first or ("", None, ())
        self._first = None
        message, parts, length = wire.request(function, inputs, attributes, outputs, id)
        self._call.credit.acquire()
        if self._call.is_over:
            self._call.credit.release()
            raise Unavailable("the stream has ended")
        self._connection.send(self._call, message, parts, length, last=False)

    def finish(self) -> None:
        """No more batches."""
        if self._is_finished:
            return
        if self._first is not None:
            self.send({})  # Without a batch the Summary still wants to know of what.
        self._is_finished = True
        self._connection.send(self._call, b"", [], 0, last=True)

    def cancel(self) -> None:
        self._connection.cancel(self._call)

    def __iter__(self) -> Iterator[Dict[str, Any]]:
        return self

    def __next__(self) -> Dict[str, Any]:
        while self.summary is None:
            try:
                message, payload, is_last = self._connection.receive(self._call)
            except LossdError:
                if self._failure is not None:
                    raise self._failure
                raise
            _, arrays, summary = wire.response(message, payload)
            if summary is not None:
                if is_last:
                    self.summary = Summary(summary)
                continue
            if not self._call.is_over:
                self._connection.grant(self._call, 1)
            return arrays
        raise StopIteration

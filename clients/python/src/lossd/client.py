"""The client for threads."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple, TypeVar, Union

import numpy as np
from numpy.typing import NDArray

from . import _clock, _core, _driver, _named, _shm, _wire as wire
from ._clock import deadline_after
from ._connection import Call, Connection
from ._functions import Functions
from ._functions_base import Asked, WithGrad, WithGrads
from ._evaluation import Evaluation
from ._messages import FunctionDescription, Status
from ._named import Named
from ._prepared import Preparation, Prepared
from ._restream import RepeatedStream
from ._retry import Outage
from ._shm import Lease
from .errors import Cancelled, InvalidArgument, LossdError, NeverBegan, Unavailable
from .stream import Stream

T = TypeVar("T")
#: How often a call that never began is tried again, and seconds between: 10 s for a daemon to come back.
TRIES = 100
PAUSE = 0.1


class Client(Functions[NDArray[Any], WithGrad, WithGrads]):
    """A client of one daemon; any thread, many calls at once.

    It connects when it is first used, again when the connection is gone and after a fork, and tries again
    what the daemon says it never began.
    """

    def __init__(self, address: str, retry: Optional[float] = None):
        wire.parse_address(address)
        self.address = address
        #: Seconds that evaluations are repeated for while the daemon is away; 0: not at all.
        self.retry: float = 0.0 if retry is None else _clock.at_most(retry, "retry")
        self._lock = threading.Lock()
        self._current: Optional[Connection] = None
        #: Functions a result of which had another size than was thought.
        self._other_sizes: Set[str] = set()
        #: What functions gave, by their names, where no outputs were named.
        self._defaults: Dict[str, Tuple[str, ...]] = {}
        #: Of small evaluations: this process's, by its id. A dict, since threads may come to it at once.
        self._drivers: Dict[int, _core.Driver] = {}

    def __reduce__(self) -> Any:
        # A copy, also in another process, connects anew.
        return type(self), (self.address, self.retry)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        current = getattr(self, "_current", None)
        if current is not None:
            current.close()

    def close(self) -> None:
        """Ends the connection; calls under way raise Unavailable."""
        with self._lock:
            if self._current is not None:
                self._current.close()
                self._current = None
        driver = self._drivers.pop(os.getpid(), None)
        if driver is not None:
            driver.close()

    def _driver(self) -> _core.Driver:
        """For small evaluations; another one after `close`, and in a child."""
        process = os.getpid()
        driver = self._drivers.get(process)
        if driver is None:
            for other in list(self._drivers):
                self._drivers.pop(other, None)
            driver = self._drivers.setdefault(process, _driver.driver(self.address))
        return driver

    def _begin_small(self, function: Any, inputs: Any, attributes: Any, outputs: Any,
                     deadline: Optional[float]) -> Optional[_core.Call]:
        """None: the inputs are big, or what there is is not as plain as most calls have it."""
        # As short as can be: it is a good part of what a small call takes.
        driver = self._drivers.get(os.getpid()) or self._driver()
        left = 0 if deadline is None else _driver.microseconds(deadline)
        return driver.begin(function, inputs, attributes, outputs, left, _shm.THRESHOLD)

    def _begin_plain(self, evaluation: Evaluation, deadline: Optional[float]) -> Optional[_core.Call]:
        """The same for what was not plain enough as it came."""
        if evaluation.is_big:
            return None
        inputs, attributes = _driver.plain(evaluation)
        return self._driver().begin(
            evaluation.function, inputs, attributes, evaluation.outputs, _driver.microseconds(deadline), sys.maxsize)

    def _connection(self, deadline: Optional[float] = None) -> Connection:
        if self._current is not None and self._current.process != os.getpid():
            # A child: the lock may have been held in the parent, the connection is not ours.
            self._lock = threading.Lock()
            self._current.close()
            self._current = None
        with self._lock:
            if self._current is None or not self._current.is_usable:
                self._current = Connection(self.address, deadline)
            return self._current

    def _outage(self, deadline: Optional[float], is_restarting: bool = False) -> Outage:
        return Outage(self.address, self.retry, deadline, TRIES, PAUSE, is_restarting)

    def _retry(self, attempt: Callable[[Connection], T], deadline: Optional[float],
               is_restarting: bool = False, outage: Optional[Outage] = None) -> T:
        """What `attempt` gives on a connection, another one after each that the daemon says is going away."""
        outage = outage or self._outage(deadline, is_restarting)
        while True:
            is_connected = False
            try:
                connection = self._connection(deadline)
                is_connected = True
                return attempt(connection)
            except Unavailable as error:
                time.sleep(outage.after(error, is_connected))

    def _unary(self, method: str, request: wire.Request, timeout: Optional[float]) -> Tuple[bytes, memoryview]:
        deadline = deadline_after(timeout)

        def attempt(connection: Connection) -> Tuple[bytes, memoryview]:
            call = connection.open(method, deadline, request)
            try:
                answer, payload, _ = connection.receive(call)
            except LossdError:
                raise
            except BaseException:  # Ctrl-C
                connection.abandon(call)
                raise
            return answer, payload

        return self._retry(attempt, deadline)

    def evaluate(self, function: str, inputs: Mapping[str, Any],
                 attributes: Optional[Mapping[str, Any]] = None, outputs: Union[str, Sequence[str]] = (),
                 timeout: Optional[float] = None) -> Dict[str, NDArray[Any]]:
        """One evaluation of any function: results by name.

        `inputs`: arrays by name, None for one that is not there. `attributes`: bools, ints, floats, strings and data
        types by name. `outputs`: names of results, gradients being `grad.NAME`; the function's own result when there
        are none. `timeout`: seconds. Raises LossdError: InvalidArgument, NotFound, DeadlineExceeded, ...

            client.evaluate("cross_entropy", {"input": x, "target": y}, {"reduction": "sum"}, ["loss", "grad.input"])
        """
        if not self.retry:
            deadline = None if timeout is None else deadline_after(timeout)
            small = self._begin_small(function, inputs, attributes, outputs, deadline)
            if small is not None:
                return small.wait()
        return self.submit(function, inputs, attributes, outputs, timeout).result()

    def submit(self, function: str, inputs: Mapping[str, Any],
               attributes: Optional[Mapping[str, Any]] = None, outputs: Union[str, Sequence[str]] = (),
               timeout: Optional[float] = None) -> "Pending":
        """Begins an evaluation without waiting for it: many can be under way at once on the connection, in one
        thread. The arrays must stay as they are until its result has been taken. Small calls are sent many at a time,
        at the latest when one of them is waited for or asked whether it is done."""
        return Pending(self, function, inputs, attributes, outputs, timeout)

    def prepare(self, function: str, *arguments: Any, **options: Any) -> Prepared:
        """A call to be made again and again: arguments are those of the method of that name, or of `function(name)`,
        `with_grad`, `grad` and `timeout` among them.

        Each call reads the arrays as they are then. Where the inputs have less than 256 KiB, and the client no `retry`, it
        gives the same result objects, whose elements it writes anew: copy what is to outlive the next one. What is no C-contiguous numpy array (a list, a tensor, a strided view) is
        read once, here. One thread at a time. Raises what the function would.

            step = client.prepare("cross_entropy", logits, labels, with_grad=True)
            loss, grad = step()
        """
        return Preparation(self).prepare(function, arguments, options)

    def empty(self, shape: Any, dtype: Any = np.float32) -> NDArray[Any]:
        """An array whose elements the daemon reads where they lie, when it is given as an input: it crosses no
        socket and is not copied, as long as the connection lasts that there is now, and until the process forks. Then
        it stays as it is, and is copied with every call, as is an array of an earlier connection: another `empty` gives
        a new one. Over TCP, and where the daemon gives no memory, an ordinary array."""
        return self._connection().empty(shape, dtype)

    def _ask(self, function: str, inputs: Dict[str, Any], attributes: Dict[str, Any], asked: Asked,
             timeout: Optional[float]) -> Any:
        return asked.of(self.evaluate(function, inputs, attributes, asked.outputs, timeout))

    def function(self, name: str, timeout: Optional[float] = None) -> Callable[..., Any]:
        """A function of the daemon's by its name, one of a plugin too, to be called like those that are methods: inputs
        in their order or by name, attributes by name, and with_grad, grad and timeout.

        `timeout`: seconds, for asking what the function takes. Raises NotFound where the daemon has none of that name.

            focal = client.function("quality_focal_loss")
            loss, grad = focal(logits, quality, beta=2.0, with_grad=True)
        """
        return _named.function(self, Named(name, self.functions(name, timeout)))

    def stream(self, function: str, batches: Optional[Iterable[Mapping[str, Any]]] = None,
               attributes: Optional[Mapping[str, Any]] = None, outputs: Union[str, Sequence[str]] = (),
               timeout: Optional[float] = None, window: int = 16) -> Stream:
        """A data set in batches: `for result in client.stream(name, batches): ...`, then `.summary`.

        Without `batches` they are sent by `send`, and `finish` ends them. `window`: how many batches may be
        under way, that is sent and their results not taken.
        """
        kind = RepeatedStream if self.retry else Stream
        return kind(self, function, batches, attributes, outputs, timeout, window)

    def functions(self, name: str = "", timeout: Optional[float] = None) -> List[FunctionDescription]:
        """Descriptions (proto/lossd.proto's Function) of all functions, or of one."""
        message = wire.ListFunctionsRequest(name=name).SerializeToString()
        answer, _ = self._unary(wire.LIST_FUNCTIONS, wire.Request(message, [], 0), timeout)
        return list(wire.decoded(wire.ListFunctionsResponse, answer).functions)

    def status(self) -> Status:
        """proto/lossd.proto's GetStatusResponse."""
        answer, _ = self._unary(wire.GET_STATUS, wire.Request(b"", [], 0), None)
        status: Status = wire.decoded(wire.GetStatusResponse, answer)
        return status

    def ping(self, timeout: Optional[float] = None) -> float:
        """Seconds to the daemon and back."""
        deadline = deadline_after(timeout)
        connection = self._connection(deadline)
        connection.hello(deadline)
        start = time.perf_counter()
        connection.ping(deadline)
        return time.perf_counter() - start


class Pending:
    """An evaluation under way, made by `Client.submit`. One thread at a time."""

    _result: Optional[Dict[str, Any]] = None
    _error: Optional[LossdError] = None
    _is_cancelled = False

    def __init__(self, client: Client, function: str, inputs: Mapping[str, Any],
                 attributes: Optional[Mapping[str, Any]], outputs: Union[str, Sequence[str]], timeout: Optional[float]):
        deadline = None if timeout is None else deadline_after(timeout)
        self._client = client
        self._deadline = deadline
        #: Where the inputs are small: all that there is.
        self._small = client._begin_small(function, inputs, attributes, outputs, deadline)
        if self._small is not None and not client.retry:
            return
        self._evaluation = Evaluation(function, inputs, attributes, outputs, 1, defaults=client._defaults)
        self._outage = client._outage(self._deadline)
        if self._small is None:
            self._small = client._begin_plain(self._evaluation, self._deadline)
        if self._small is not None:
            return
        # Until the daemon says that one has another size.
        self._has_results_in_place = function not in client._other_sizes
        self._connection, self._call = client._retry(self._begin, self._deadline, outage=self._outage)

    def _begin(self, connection: Connection) -> Tuple[Connection, Call]:
        request, lease = connection.lease(self._evaluation, self._has_results_in_place, self._deadline)
        try:
            return connection, connection.open(wire.EVALUATE, self._deadline, request, lease)
        except BaseException:
            if lease is not None:
                lease.end(is_safe=False)  # without effect where the call's end has ended it
            raise

    def done(self) -> bool:
        """Whether `result` would return, or raise, at once."""
        if self._result is not None or self._error is not None:
            return True
        return self._small.done() if self._small is not None else not self._call.events.empty()

    def cancel(self) -> None:
        """Asks the daemon to stop: `result` then raises Cancelled, unless the call had ended before."""
        self._is_cancelled = True
        if self._small is not None:
            self._small.cancel()
        else:
            self._connection.cancel(self._call)

    def result(self) -> Dict[str, NDArray[Any]]:
        """Waits; results by name, also when asked again."""
        while self._result is None:
            if self._error is not None:
                raise self._error
            try:
                if self._small is not None:
                    self._result = self._small.wait()
                    break
                self._result = self._receive()
                if not self._evaluation.outputs:
                    self._client._defaults[self._evaluation.function] = tuple(self._result)
            except Unavailable as error:
                self._begin_again(error)
            except LossdError as error:
                self._error = error
        return self._result

    def _begin_again(self, error: Unavailable) -> None:
        is_small = self._small is not None
        if not self._client.retry and (is_small or not isinstance(error, NeverBegan)):
            self._error = error
        elif self._is_cancelled:
            self._error = Cancelled("the call was cancelled before it began")
        else:
            try:
                if self._client.retry:
                    time.sleep(self._outage.after(error, True))
                if is_small:
                    self._small = self._client._begin_plain(self._evaluation, self._deadline)
                    return
                outage = self._outage if self._client.retry else self._client._outage(self._deadline, True)
                self._connection, self._call = self._client._retry(self._begin, self._deadline, outage=outage)
            except LossdError as last:
                self._error = last

    def _receive(self) -> Dict[str, Any]:
        lease: Optional[Lease] = self._call.lease
        try:
            answer, payload, _ = self._connection.receive(self._call)
        except InvalidArgument:
            if lease is None or not lease.results:
                raise
            # Perhaps a result has another size than was thought.
            lease.end(is_safe=True)
            self._has_results_in_place = False
            self._connection, self._call = self._client._retry(self._begin, self._deadline, is_restarting=True)
            result = self._receive()
            # That was it: the function's next call is not sent twice.
            self._client._other_sizes.add(self._evaluation.function)
            return result
        except LossdError:
            if lease is not None and not self._call.is_abandoned:
                lease.end(is_safe=True)
            raise
        except BaseException:  # Ctrl-C
            self._connection.abandon(self._call)
            raise
        try:
            return wire.response(answer, payload, lease)[1]
        finally:
            if lease is not None:
                lease.end(is_safe=True)

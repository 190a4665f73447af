"""What both clients do, threads' and asyncio's: all but waiting, which is _driver.py's."""

from __future__ import annotations

import random
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from . import _clock, _core, _driver, _schema, _values
from ._clock import deadline_after, left_until
from ._driver import Waiting, microseconds
from ._messages import FunctionDescription, Status
from ._sockets import parse_address
from .errors import Cancelled, Closed, Internal, InvalidArgument, Unavailable

LIST_FUNCTIONS = "/lossd.v1.Evaluator/ListFunctions"
GET_STATUS = "/lossd.v1.Daemon/GetStatus"
#: Seconds before what failed is begun again: at first, and at most.
FIRST, LONGEST = 0.02, 1.0
#: Begins a call, by the driver that there is now, with the token.
Begin = Callable[[_core.Driver, int], _core.Call]
Outputs = Union[str, Sequence[str]]


def decoded(kind: str, message: bytes) -> Any:
    """A message of that name; Internal where the bytes are none."""
    try:
        return _schema.message(kind).FromString(message)
    except Exception as error:  # protobuf's own differ by version
        raise Internal(f"the daemon's answer does not decode: {error}") from error


def plain(call: Optional[Any]) -> Any:
    """What lossd._core has made of arguments that are plain."""
    if call is None:
        raise InvalidArgument("a name or a text has a zero byte or is no UTF-8, or an array has more than 64 dimensions")
    return call


class Outage:
    """How long a daemon that is away is waited for."""

    def __init__(self, retry: float, deadline: Optional[float]):
        self._retry = retry
        self._deadline = deadline
        self._until: Optional[float] = None
        self._next = FIRST

    def after(self, error: Unavailable) -> float:
        """Seconds to wait until the next try; raises the error where there is none."""
        now = time.monotonic()
        if isinstance(error, Closed) or not self._retry:
            raise error
        if self._until is None:
            self._until = now + min(self._retry, _clock.LONGEST)
        elif now >= self._until:
            raise type(error)(f"{error.message} (tried again for {self._retry:g} s)", error.metadata) from error
        # Many clients shall not come back at the same moment.
        pause = self._next * random.uniform(0.5, 1)
        self._next = min(2 * self._next, LONGEST)
        left = left_until(self._deadline)
        return max(0.0, min(pause, self._until - now, pause if left is None else left))


class Attempt:
    """A call, which a client with `retry` begins again while the daemon is away."""

    def __init__(self, client: "Calls", begin: Begin, deadline: Optional[float], is_left: bool = False):
        self._client = client
        self._begin = begin
        self._outage = Outage(client.retry, deadline)
        self._is_left = is_left
        self.is_cancelled = False
        self.begin()

    def begin(self) -> None:
        self._waiting = self._client._waiting()
        self._token = self._waiting.token(self._is_left)
        self.call = self._begin(self._waiting.core, self._token)
        self._waiting.begun()

    async def result(self) -> Dict[str, Any]:
        while True:
            try:
                return await self._waiting.ended(self.call, self._token)
            except Unavailable as error:
                if not self._client.retry:
                    raise
                if self.is_cancelled:
                    raise Cancelled("the call was cancelled before it began") from error
                await self._waiting.sleep(self._outage.after(error))
                self.begin()


class Evaluation:
    """An evaluation that has begun."""

    def __init__(self, client: "Calls", function: Any, inputs: Any, attributes: Any, outputs: Any,
                 timeout: Optional[float], is_left: bool = False):
        deadline = deadline_after(timeout)
        self._client = client
        self._function = function
        self._is_unnamed = not outputs
        #: The results that are asked for by name since the function gave them before.
        self._guess: Tuple[str, ...] = ()
        if self._is_unnamed and isinstance(function, str):
            self._guess = client._defaults.get(function, ())
        is_plain = False

        def begin(driver: _core.Driver, token: int) -> _core.Call:
            nonlocal inputs, attributes, outputs, is_plain
            if not is_plain:
                call = driver.begin(
                    function, inputs, attributes, self._guess or outputs, microseconds(deadline), token)
                if call is not None:
                    return call
                _values.function_name(function)
                inputs, attributes, outputs = (
                    _values.arrays(inputs), _values.attributes(attributes), _values.names(outputs))
                is_plain = True
            call = driver.begin(function, inputs, attributes, self._guess or outputs, microseconds(deadline), token)
            found: _core.Call = plain(call)
            return found

        self._attempt = Attempt(client, begin, deadline, is_left)

    async def result(self) -> Dict[str, Any]:
        try:
            results = await self._attempt.result()
        except InvalidArgument:
            if not self._guess:
                raise
            # It gives something else by now.
            self._guess = ()
            self._client._defaults.pop(self._function, None)
            self._attempt.begin()
            results = await self._attempt.result()
        if self._is_unnamed and not self._guess:
            self._client._learn(self._function, results)
        return results

    def done(self) -> bool:
        return self._attempt.call.done()

    def cancel(self) -> None:
        self._attempt.is_cancelled = True
        self._attempt.call.cancel()


class Calls:
    """A client, but for how it waits: its methods are coroutines."""

    def __init__(self, address: str, retry: Optional[float] = None):
        parse_address(address)
        self.address = address
        #: Seconds that evaluations are repeated for while the daemon is away; 0: not at all.
        self.retry: float = 0.0 if retry is None else _clock.at_most(retry, "retry")
        #: What functions gave, by their names, where no outputs were named.
        self._defaults: Dict[str, Tuple[str, ...]] = {}

    def __reduce__(self) -> Any:
        # A copy, also in another process, connects anew.
        return type(self), (self.address, self.retry)

    def _waiting(self) -> Waiting:
        """For this process, or loop."""
        raise NotImplementedError

    def _learn(self, function: str, results: Mapping[str, Any]) -> None:
        """What it gives where nothing is named: by name the next big results have a place in shared memory."""
        if any(getattr(array, "bits", array).nbytes >= _driver.SHARED_MIN for array in results.values()):
            self._defaults[function] = tuple(results)

    async def _evaluated(self, function: Any, inputs: Any, attributes: Any, outputs: Any,
                         timeout: Optional[float]) -> Dict[str, Any]:
        return await Evaluation(self, function, inputs, attributes, outputs, timeout).result()

    async def _answered(self, method: str, message: bytes, timeout: Optional[float]) -> bytes:
        deadline = deadline_after(timeout)
        attempt = Attempt(
            self, lambda driver, token: driver.raw(method, message, microseconds(deadline), token), deadline)
        await attempt.result()
        return attempt.call.answer()

    async def _described(self, name: str, timeout: Optional[float]) -> List[FunctionDescription]:
        message = _schema.message("ListFunctionsRequest")(name=name).SerializeToString()
        return list(decoded("ListFunctionsResponse", await self._answered(LIST_FUNCTIONS, message, timeout)).functions)

    async def _status(self) -> Status:
        status: Status = decoded("GetStatusResponse", await self._answered(GET_STATUS, b"", None))
        return status

    async def _pinged(self, timeout: Optional[float]) -> float:
        deadline, waiting = deadline_after(timeout), self._waiting()
        token = waiting.token()
        call = waiting.core.ping(microseconds(deadline), token)
        await waiting.ended(call, token)
        return call.seconds()

    async def _shared(self, shape: Any, dtype: Any) -> np.ndarray:
        dtype = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        await self._pinged(_clock.CONNECT_TIMEOUT)  # The daemon's first word says whether it shares memory.
        waiting = self._waiting()
        token = waiting.token()
        memory = waiting.core.share(size, token) if size > 0 else None
        if memory is not None:
            await waiting.settled(memory, token)
            if memory.is_there():
                array: np.ndarray = np.frombuffer(memory, np.uint8, size).view(dtype).reshape(shape)  # type: ignore
                return array
        return np.empty(shape, dtype)

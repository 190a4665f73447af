"""The client for threads."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Union

import numpy as np
from numpy.typing import NDArray

from . import _core, _named
from ._calls import Calls, Evaluation
from ._clock import deadline_after
from ._driver import Threads, microseconds, run
from ._functions import Functions
from ._functions_base import Asked, WithGrad, WithGrads
from ._messages import FunctionDescription, Status
from ._named import Named
from ._prepared import Preparation, Prepared
from ._streams import RepeatedBatches, Summary
from .errors import LossdError
from .stream import Stream


class Client(Calls, Functions[NDArray[Any], WithGrad, WithGrads]):
    """A client of one daemon; any thread, many calls at once.

    It connects when it is first used, again when the connection is gone and after a fork, and tries again
    what the daemon says it never began.
    """

    def __init__(self, address: str, retry: Optional[float] = None):
        super().__init__(address, retry)
        #: This process's, by its id. A dict, since threads may come to it at once.
        self._drivers: Dict[int, Threads] = {}

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        for waiting in list(getattr(self, "_drivers", {}).values()):
            waiting.close()  # arrays in shared memory, which outlive it, have no need of a connection

    def close(self) -> None:
        """Ends the connection; calls under way raise Unavailable."""
        waiting = self._drivers.pop(os.getpid(), None)
        if waiting is not None:
            waiting.close()

    def _waiting(self) -> Threads:
        """Another one after `close`, and in a child."""
        process = os.getpid()
        waiting = self._drivers.get(process)
        if waiting is None:
            for other in list(self._drivers):
                self._drivers.pop(other, None)
            waiting = self._drivers.setdefault(process, Threads(self.address))
        return waiting

    def _begun(self, function: Any, inputs: Any, attributes: Any, outputs: Any, timeout: Optional[float],
               is_left: bool) -> Optional[_core.Call]:
        """None where it is not as plain as most calls. As short as can be: it is a good part of what a small one takes."""
        if self.retry or not outputs and (self._defaults or is_left):
            return None
        left = 0 if timeout is None else microseconds(deadline_after(timeout))
        waiting = self._drivers.get(os.getpid()) or self._waiting()
        return waiting.core.begin(function, inputs, attributes, outputs, left, is_left)

    def evaluate(self, function: str, inputs: Mapping[str, Any],
                 attributes: Optional[Mapping[str, Any]] = None, outputs: Union[str, Sequence[str]] = (),
                 timeout: Optional[float] = None) -> Dict[str, NDArray[Any]]:
        """One evaluation of any function: results by name.

        `inputs`: arrays by name, None for one that is not there. `attributes`: bools, ints, floats, strings and data
        types by name. `outputs`: names of results, gradients being `grad.NAME`; the function's own result when there
        are none. `timeout`: seconds. Raises LossdError: InvalidArgument, NotFound, DeadlineExceeded, ...

            client.evaluate("cross_entropy", {"input": x, "target": y}, {"reduction": "sum"}, ["loss", "grad.input"])
        """
        call = self._begun(function, inputs, attributes, outputs, timeout, False)
        if call is not None:
            results = call.wait()
            if not outputs:
                self._learn(function, results)
            return results
        return run(self._evaluated(function, inputs, attributes, outputs, timeout))

    def submit(self, function: str, inputs: Mapping[str, Any],
               attributes: Optional[Mapping[str, Any]] = None, outputs: Union[str, Sequence[str]] = (),
               timeout: Optional[float] = None) -> "Pending":
        """Begins an evaluation without waiting for it: many can be under way at once on the connection, in one
        thread. The arrays must stay as they are until its result has been taken. Calls are sent many at a time,
        at the latest when one of them is waited for or asked whether it is done."""
        return Pending(self, function, inputs, attributes, outputs, timeout)

    def prepare(self, function: str, *arguments: Any, **options: Any) -> Prepared:
        """A call to be made again and again: arguments are those of the method of that name, or of `function(name)`,
        `with_grad`, `grad` and `timeout` among them.

        Each call reads the arrays as they are then. Where the client has no `retry`, it gives the same result objects,
        whose elements it writes anew: copy what is to outlive the next one. What is no C-contiguous numpy array (a list,
        a tensor, a strided view) is read once, here. One thread at a time. Raises what the function would.

            step = client.prepare("cross_entropy", logits, labels, with_grad=True)
            loss, grad = step()
        """
        return Preparation(self).prepare(function, arguments, options)

    def empty(self, shape: Any, dtype: Any = np.float32) -> NDArray[Any]:
        """An array whose elements the daemon reads where they lie, when it is given as an input: it crosses no
        socket and is not copied, as long as the connection lasts that there is now, and until the process forks. Then
        it stays as it is, and is copied with every call, as is an array of an earlier connection: another `empty` gives
        a new one. Over TCP, and where the daemon gives no memory, an ordinary array. Inputs of fewer than 96 KiB go by the
        socket all the same, which is quicker."""
        return run(self._shared(shape, dtype))

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
        return Stream(self, function, batches, attributes, outputs, timeout, window)

    def merge(self, function: str, summaries: Sequence[Summary], attributes: Optional[Mapping[str, Any]] = None,
              timeout: Optional[float] = None) -> Summary:
        """What parts of a data set came to together: the Summary of one stream of all their rows, of built-in functions
        to the last bit, in whatever order and however they were cut. `function` and `attributes`: the parts' own.

        Raises InvalidArgument where a Summary is another function's, ValueError where there is none.
        """
        return run(RepeatedBatches(self, function, attributes, (), timeout, 1).merge(summaries))

    def functions(self, name: str = "", timeout: Optional[float] = None) -> List[FunctionDescription]:
        """Descriptions (proto/lossd.proto's Function) of all functions, or of one."""
        return run(self._described(name, timeout))

    def status(self) -> Status:
        """proto/lossd.proto's GetStatusResponse."""
        return run(self._status())

    def ping(self, timeout: Optional[float] = None) -> float:
        """Seconds to the daemon and back."""
        return run(self._pinged(timeout))


class Pending:
    """An evaluation under way, made by `Client.submit`. One thread at a time."""

    _result: Optional[Dict[str, Any]] = None
    _error: Optional[LossdError] = None

    def __init__(self, client: Client, function: str, inputs: Mapping[str, Any],
                 attributes: Optional[Mapping[str, Any]], outputs: Union[str, Sequence[str]], timeout: Optional[float]):
        call = client._begun(function, inputs, attributes, outputs, timeout, True)
        self._call: Union[_core.Call, Evaluation] = call or Evaluation(
            client, function, inputs, attributes, outputs, timeout, is_left=True)

    def done(self) -> bool:
        """Whether `result` would return, or raise, at once."""
        return self._result is not None or self._error is not None or self._call.done()

    def cancel(self) -> None:
        """Asks the daemon to stop: `result` then raises Cancelled, unless the call had ended before."""
        self._call.cancel()

    def result(self) -> Dict[str, NDArray[Any]]:
        """Waits; results by name, also when asked again."""
        if self._error is not None:
            raise self._error
        if self._result is None:
            try:
                call = self._call
                self._result = run(call.result()) if isinstance(call, Evaluation) else call.wait()
            except LossdError as error:
                self._error = error
                raise
        return self._result

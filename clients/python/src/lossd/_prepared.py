"""Calls that are made again and again with the same arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple

from . import _core, _named, _values
from ._calls import plain
from ._clock import deadline_after
from ._driver import Threads, microseconds
from ._functions import Functions
from ._functions_base import Asked
from ._named import Named

if TYPE_CHECKING:
    from .client import Client


class Prepared:
    """A call of `Client.prepare`: to be called without arguments."""

    def __init__(self, client: "Client", function: str, inputs: Dict[str, Any], attributes: Dict[str, Any],
                 asked: Asked, timeout: Optional[float]):
        deadline_after(timeout)  # raises where it is none
        self._client = client
        self._asked = asked
        self._timeout = timeout
        self._arguments = (function, _values.arrays(inputs), _values.attributes(attributes), _values.names(asked.outputs))
        #: Of whom it is: after a fork, and after `close`, there is another one.
        self._waiting: Optional[Threads] = None
        self._call: Optional[_core.Call] = None
        #: What the call gave last, and that as the caller gets it.
        self._results: Optional[Tuple[Any, ...]] = None
        self._value: Any = None

    def __call__(self) -> Any:
        """What the function gives: a result, or a result and gradients. Raises what it would."""
        if self._client.retry:
            return self._asked.of(self._client.evaluate(*self._arguments, self._timeout))
        waiting = self._client._waiting()
        if self._call is None or self._waiting is not waiting:
            timeout_us = microseconds(deadline_after(self._timeout))
            self._call = plain(waiting.core.prepare(*self._arguments, timeout_us))
            self._waiting, self._results = waiting, None
        results = self._call.run()
        if results is not self._results:
            names = dict.fromkeys(self._asked.outputs)
            self._value, self._results = self._asked.of(dict(zip(names, results))), results
        return self._value


class Preparation(Functions[Any, Any, Any]):
    """Stands in for a client whose functions it prepares."""

    def __init__(self, client: "Client"):
        self._client = client

    def _ask(self, function: str, inputs: Dict[str, Any], attributes: Dict[str, Any], asked: Asked,
             timeout: Optional[float]) -> Any:
        return Prepared(self._client, function, inputs, attributes, asked, timeout)

    def prepare(self, name: str, arguments: Tuple[Any, ...], options: Dict[str, Any]) -> Prepared:
        method = getattr(Functions, name, None) if isinstance(name, str) and not name.startswith("_") else None
        if method is not None:
            prepared: Prepared = method(self, *arguments, **options)
            return prepared
        named = _named.function(self, Named(name, self._client.functions(name)))
        prepared = named(*arguments, **options)
        return prepared

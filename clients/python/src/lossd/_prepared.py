"""Calls that are made again and again with the same arrays."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple

from . import _core, _driver, _named, _shm
from ._clock import deadline_after
from ._evaluation import Evaluation
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
        self._evaluation = Evaluation(function, inputs, attributes, asked.outputs, 1)
        self._inputs, self._attributes = _driver.plain(self._evaluation)
        #: Of which driver it is: after a fork, and after `close`, there is another one.
        self._driver: Optional[_core.Driver] = None
        self._call: Optional[_core.Call] = None
        #: What the call gave last, and that as the caller gets it.
        self._results: Optional[Tuple[Any, ...]] = None
        self._value: Any = None

    def __call__(self) -> Any:
        """What the function gives: a result, or a result and gradients. Raises what it would."""
        if self._client.retry or self._evaluation.bytes >= _shm.THRESHOLD:
            return self._evaluate()
        driver = self._client._driver()
        if self._driver is not driver:
            self._make(driver)
        call = self._call
        if call is None:
            return self._evaluate()
        results = call.run()
        if results is not self._results:
            names = dict.fromkeys(self._asked.outputs)
            self._value, self._results = self._asked.of(dict(zip(names, results))), results
        return self._value

    def _make(self, driver: _core.Driver) -> None:
        deadline = deadline_after(self._timeout)
        self._call = driver.prepare(self._evaluation.function, self._inputs, self._attributes, self._asked.outputs,
                                    _driver.microseconds(deadline), sys.maxsize)
        self._driver, self._results = driver, None

    def _evaluate(self) -> Any:
        """One that is big, repeated while the daemon is away, or of names that are not plain: as if it came anew, save
        that its arrays have been made."""
        evaluation = self._evaluation
        inputs = {name: _driver.restored(array, kind) for name, (array, kind) in evaluation.arrays.items()}
        return self._asked.of(self._client.evaluate(
            evaluation.function, inputs, evaluation.attributes, evaluation.outputs, self._timeout))


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

"""Small evaluations, through liblossd's core in C: one driver a client, made when it is first used."""

from __future__ import annotations

import functools
from typing import Any, Dict, Optional, Tuple

import numpy as np

from . import _clock, _wire as wire
from ._clock import left_until
from ._evaluation import Evaluation
from ._sockets import connected_socket
from .errors import Closed, LossdError, from_code

try:
    from . import _core
except ImportError as error:
    if "main interpreter" in str(error):
        raise
    raise ImportError(
        f"lossd was installed without its part in C, lossd._core, or that does not load ({error}): install a wheel of "
        "lossd, or build it where a C compiler and libprotobuf-c's headers (Debian: libprotobuf-c-dev) are") from error


def _error(code: int, text: str, is_closed: int) -> LossdError:
    return Closed(text) if is_closed else from_code(code, text)


_core.setup(np.ndarray, tuple(None if number == 0 else wire.dtype_of(number) for number in range(11)), wire.bfloat16,
            _error, LossdError)


def _connect(address: str, seconds: float) -> int:
    # No deadline of its own: the core knows which calls have come to theirs.
    return connected_socket(address, max(0.001, seconds)).detach()


def driver(address: str) -> _core.Driver:
    return _core.Driver(
        address, int(_clock.CONNECT_TIMEOUT * 1e6), functools.partial(_connect, address),
        address == wire.PRIVATE_ADDRESS)


def microseconds(deadline: Optional[float]) -> int:
    """What is left until then; 0: there is no deadline."""
    left = left_until(deadline)
    return 0 if left is None else max(1, min(int(left * 1e6), 10**15))


def plain(evaluation: Evaluation) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """What `begin` takes for inputs and attributes."""
    inputs = {name: (array.view(np.uint16) if kind == "bfloat16" else array, kind)
              for name, (array, kind) in evaluation.arrays.items()}
    attributes = {name: wire.plain_value(value, name) for name, value in (evaluation.attributes or {}).items()}
    return inputs, attributes


def restored(array: Any, kind: str) -> Any:
    """An input of an Evaluation as `evaluate` takes it."""
    return wire.BFloat16Array(array) if kind == "bfloat16" and array.dtype == np.uint16 else array

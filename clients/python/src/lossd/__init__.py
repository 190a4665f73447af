"""Client of lossd: torch's losses, activations and gradients from a daemon, in numpy.

    >>> import lossd, numpy
    >>> with lossd.connect() as client:
    ...     loss, grad = client.cross_entropy(logits, labels, with_grad=True)
"""

from __future__ import annotations

import os
from typing import Optional

from ._program import serve
from ._sockets import DEFAULT_ADDRESS
from ._functions_base import Reduction as Reduction, WithGrad, WithGrads
from ._messages import FunctionAttribute, FunctionDescription, FunctionInput, FunctionOutput, Status
from ._streams import Summary
from ._values import BFloat16Array
from .aio import AsyncClient
from .astream import AsyncStream
from .client import Client, Pending
from ._prepared import Prepared
from .errors import (
    Cancelled, DeadlineExceeded, FailedPrecondition, Internal, InvalidArgument, LossdError, NeverBegan,
    NotFound, PermissionDenied, ResourceExhausted, Unavailable, Unimplemented)
from ._version import __version__
from .stream import Stream

__all__ = [
    "AsyncClient", "AsyncStream", "BFloat16Array", "Cancelled", "Client", "DeadlineExceeded",
    "FailedPrecondition", "FunctionAttribute", "FunctionDescription", "FunctionInput", "FunctionOutput",
    "Internal", "InvalidArgument", "LossdError", "NeverBegan", "NotFound", "Pending", "PermissionDenied",
    "Prepared", "ResourceExhausted", "Status", "Stream", "Summary", "Unavailable", "Unimplemented", "WithGrad", "WithGrads",
    "connect", "connect_async", "serve",
]


def _address(address: Optional[str]) -> str:
    return address or os.environ.get("LOSSD_ADDRESS") or DEFAULT_ADDRESS


def connect(address: Optional[str] = None, retry: Optional[float] = None) -> Client:
    """A client of the daemon at `address` (unix:PATH, tcp:HOST:PORT or private:), else at $LOSSD_ADDRESS, else at
    the system's socket. It connects when it is first used.

    `private:` is a daemon of this user's own, of this version of lossd: the first of the user's processes that wants it
    starts it, all share it, and it ends a minute after the last has gone. It loads no plugins.

    `retry`: seconds for which each evaluation, and each batch of a stream, is repeated while the daemon is away, be it
    that it crashed, is restarted or has not been started yet; infinity waits as long as it takes. None, or 0: calls
    raise Unavailable, streams live through restarts in which the daemon is shut down in order. A call's own `timeout`
    holds all the same.
    """
    return Client(_address(address), retry)


def connect_async(address: Optional[str] = None, retry: Optional[float] = None) -> AsyncClient:
    """The same for asyncio."""
    return AsyncClient(_address(address), retry)

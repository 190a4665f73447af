"""Client of lossd: torch's losses, activations and gradients from a daemon, in numpy.

    >>> import lossd, numpy
    >>> with lossd.connect() as client:
    ...     loss, grad = client.cross_entropy(logits, labels, with_grad=True)
"""

from __future__ import annotations

import os
from typing import Optional

from ._wire import BFloat16Array
from ._resume import Summary
from .aio import AsyncClient
from .astream import AsyncStream
from .client import Client, Pending
from .errors import (
    Cancelled, DeadlineExceeded, FailedPrecondition, Internal, InvalidArgument, LossdError, NeverBegan,
    NotFound, PermissionDenied, ResourceExhausted, Unavailable, Unimplemented)
from .stream import Stream

__all__ = [
    "AsyncClient", "AsyncStream", "BFloat16Array", "Cancelled", "Client", "DeadlineExceeded",
    "FailedPrecondition", "Internal", "InvalidArgument", "LossdError", "NeverBegan", "NotFound", "Pending",
    "PermissionDenied", "ResourceExhausted", "Stream", "Summary", "Unavailable", "Unimplemented", "connect",
    "connect_async",
]
__version__ = "0.1.0"

DEFAULT_ADDRESS = "unix:/run/lossd/lossd.sock"


def _address(address: Optional[str]) -> str:
    return address or os.environ.get("LOSSD_ADDRESS") or DEFAULT_ADDRESS


def connect(address: Optional[str] = None) -> Client:
    """A client of the daemon at `address` (unix:PATH or tcp:HOST:PORT), else at $LOSSD_ADDRESS, else at
    the system's socket. It connects when it is first used."""
    return Client(_address(address))


def connect_async(address: Optional[str] = None) -> AsyncClient:
    """The same for asyncio."""
    return AsyncClient(_address(address))

"""What a call can end with: gRPC's codes as exceptions."""

from __future__ import annotations

from typing import Any, Dict, Optional, Type


class LossdError(Exception):
    """A call that ended badly.

    Attributes: `code`, gRPC's number; `name`, its name; `message`, what was wrong and what was expected;
    `metadata`, a dict of bytes.
    """

    code: int = 2
    name: str = "UNKNOWN"

    def __init__(self, message: str, metadata: Optional[Dict[str, bytes]] = None):
        super().__init__(message)
        self.message = message
        self.metadata = metadata or {}

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"


class Cancelled(LossdError):
    """The caller cancelled the call."""

    code, name = 1, "CANCELLED"


class InvalidArgument(LossdError, ValueError):
    """A wrong name, shape, type, attribute or target; the text says which, and what was expected."""

    code, name = 3, "INVALID_ARGUMENT"


class DeadlineExceeded(LossdError, TimeoutError):
    """The call's timeout was over."""

    code, name = 4, "DEADLINE_EXCEEDED"


class NotFound(LossdError, LookupError):
    """No such function."""

    code, name = 5, "NOT_FOUND"


class PermissionDenied(LossdError):
    """A service that this address does not offer."""

    code, name = 7, "PERMISSION_DENIED"


class ResourceExhausted(LossdError):
    """Over one of the daemon's limits (docs/limits.md)."""

    code, name = 8, "RESOURCE_EXHAUSTED"


class FailedPrecondition(LossdError):
    """Not in this state: a stream that has ended."""

    code, name = 9, "FAILED_PRECONDITION"


class Unimplemented(LossdError, NotImplementedError):
    """A gradient that torch has and lossd has not."""

    code, name = 12, "UNIMPLEMENTED"


class Internal(LossdError):
    """An answer that makes no sense."""

    code, name = 13, "INTERNAL"


class Unavailable(LossdError, ConnectionError):
    """No daemon, or the connection broke."""

    code, name = 14, "UNAVAILABLE"


class NeverBegan(Unavailable):
    """The daemon said that it never began the call: it may be tried again elsewhere."""


class Closed(Unavailable):
    """This client was closed."""


_BY_CODE: Dict[int, Type[LossdError]] = {
    kind.code: kind
    for kind in (Cancelled, InvalidArgument, DeadlineExceeded, NotFound, PermissionDenied,
                 ResourceExhausted, FailedPrecondition, Unimplemented, Internal, Unavailable)
}


def from_code(code: int, message: str, metadata: Optional[Dict[str, bytes]] = None) -> LossdError:
    """The exception for one of gRPC's codes."""
    kind = _BY_CODE.get(code)
    if kind is not None:
        return kind(message, metadata)
    error = LossdError(message, metadata)
    error.code = code
    return error

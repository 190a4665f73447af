"""What a call can end with: gRPC's codes as exceptions."""

from __future__ import annotations

from typing import Dict, Optional, Type


class LossdError(Exception):
    """A call that ended badly.

    Attributes: `code`, gRPC's number; `name`, its name; `message`, what was wrong and what was expected;
    `metadata`, a dict of bytes.
    """

    code = 2
    name = "UNKNOWN"

    def __init__(self, message: str, metadata: Optional[Dict[str, bytes]] = None):
        super().__init__(message)
        self.message = message
        self.metadata = metadata or {}

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"


class Cancelled(LossdError):
    code, name = 1, "CANCELLED"


class InvalidArgument(LossdError, ValueError):
    code, name = 3, "INVALID_ARGUMENT"


class DeadlineExceeded(LossdError, TimeoutError):
    code, name = 4, "DEADLINE_EXCEEDED"


class NotFound(LossdError, LookupError):
    code, name = 5, "NOT_FOUND"


class PermissionDenied(LossdError):
    code, name = 7, "PERMISSION_DENIED"


class ResourceExhausted(LossdError):
    code, name = 8, "RESOURCE_EXHAUSTED"


class FailedPrecondition(LossdError):
    code, name = 9, "FAILED_PRECONDITION"


class Unimplemented(LossdError, NotImplementedError):
    code, name = 12, "UNIMPLEMENTED"


class Internal(LossdError):
    code, name = 13, "INTERNAL"


class Unavailable(LossdError, ConnectionError):
    code, name = 14, "UNAVAILABLE"


class NeverBegan(Unavailable):
    """The daemon said that it never began the call: it may be tried again elsewhere."""


_BY_CODE: Dict[int, Type[LossdError]] = {
    kind.code: kind
    for kind in (Cancelled, InvalidArgument, DeadlineExceeded, NotFound, PermissionDenied,
                 ResourceExhausted, FailedPrecondition, Unimplemented, Internal, Unavailable)
}


def from_status(status) -> LossdError:
    """The exception for a Status message."""
    metadata = {item.key: item.value for item in status.metadata}
    kind = _BY_CODE.get(status.code)
    if kind is None:
        error = LossdError(status.message, metadata)
        error.code = status.code
        return error
    return kind(status.message, metadata)

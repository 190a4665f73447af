"""What the daemon says of itself and its functions, as types: the objects are messages of proto/lossd.proto."""

from __future__ import annotations

from typing import Any, Protocol, Sequence


class FunctionInput(Protocol):
    """An input of a function."""

    name: str
    help: str
    #: Numbers of proto/lossd.proto's DataType.
    data_types: Sequence[int]
    required: bool
    #: It stays from one batch of a stream to the next.
    kept: bool


class FunctionOutput(Protocol):
    """A result that can be asked for."""

    name: str
    help: str
    #: It comes when no outputs are named.
    default: bool


class FunctionAttribute(Protocol):
    """An attribute of a function. Values are proto/lossd.proto's Value."""

    name: str
    help: str
    type: str
    required: bool
    default: Any
    minimum: Any
    maximum: Any
    choices: Sequence[str]
    #: "dimension", "reduction" or empty: proto/lossd.proto says what that means.
    role: str


class FunctionDescription(Protocol):
    """What `Client.functions` gives: proto/lossd.proto's Function."""

    name: str
    #: "loss" or "activation".
    kind: str
    summary: str
    inputs: Sequence[FunctionInput]
    outputs: Sequence[FunctionOutput]
    attributes: Sequence[FunctionAttribute]
    plugin: str
    version: str


class Status(Protocol):
    """What `Client.status` gives: proto/lossd.proto's GetStatusResponse, which has more."""

    version: str
    uptime_us: int
    pid: int
    connections: int
    calls_in_flight: int
    bytes_in_flight: int
    rows: int
    queue_depth: int
    workers: int
    loops: int
    kernels: str
    draining: bool
    listeners: Sequence[str]

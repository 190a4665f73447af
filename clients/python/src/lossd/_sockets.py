"""Sockets that are connected to a daemon."""

from __future__ import annotations

import socket

from . import _wire as wire
from .errors import Unavailable


def connected_socket(address: str, timeout: float) -> socket.socket:
    """Of `unix:PATH` or `tcp:HOST:PORT`, within `timeout` seconds; it blocks. Unavailable where it cannot be."""
    kind, target = wire.parse_address(address)
    try:
        if kind == "unix":
            connected = socket.socket(socket.AF_UNIX)
            try:
                connected.settimeout(timeout)
                connected.connect(target)
            except BaseException:
                connected.close()
                raise
        else:
            connected = socket.create_connection(target, timeout)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    except OSError as error:
        raise Unavailable(f"{address}: {error.strerror or error}") from error
    connected.settimeout(None)
    return connected

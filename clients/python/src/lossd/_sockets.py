"""Sockets that are connected to a daemon."""

from __future__ import annotations

import socket

from . import _private, _wire as wire
from .errors import Unavailable


def connected_socket(address: str, timeout: float) -> socket.socket:
    """Of an address, within `timeout` seconds; it blocks. Unavailable where it cannot be."""
    kind, target = wire.parse_address(address)
    if kind == "private":
        return _private.connected_socket(timeout)
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
        raise unavailable(address, error) from error
    connected.settimeout(None)
    return connected


def unavailable(address: str, error: OSError) -> Unavailable:
    """What connecting came to."""
    text = f"{address}: {error.strerror or error}"
    if address == wire.DEFAULT_ADDRESS and isinstance(error, FileNotFoundError):
        text += (": there is no system's daemon here; start one (docs/operations.md), or set LOSSD_ADDRESS to where one "
                 'is, or take one of your own: lossd.connect("private:"), or LOSSD_ADDRESS=private:')
    return Unavailable(text)

"""Addresses, and sockets that are connected to a daemon."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Optional, Tuple

from . import _clock, _private
from .errors import Unavailable

#: Of the system's daemon.
DEFAULT_ADDRESS = "unix:/run/lossd/lossd.sock"
#: Of a daemon of the user's own, which comes and goes.
PRIVATE_ADDRESS = "private:"


def parse_address(text: str) -> Tuple[str, Any]:
    """('unix', path), ('tcp', (host, port)) or ('private', None)."""
    if text == PRIVATE_ADDRESS:
        return "private", None
    if text.startswith("unix:") and len(text) > 5:
        return "unix", text[5:]
    if text.startswith("tcp:"):
        rest = text[4:]
        if rest.startswith("["):
            host, _, port = rest[1:].partition("]")
            port = port.lstrip(":")
        else:
            host, _, port = rest.partition(":")
        if host and (not port or port.isdigit()):
            return "tcp", (host, int(port or 5677))
    raise ValueError(f"address {text!r}: expected unix:PATH, tcp:HOST:PORT or private:")


def connected_socket(address: str, timeout: float) -> socket.socket:
    """Of an address, within `timeout` seconds; it blocks. Unavailable where it cannot be."""
    kind, target = parse_address(address)
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
    if address == DEFAULT_ADDRESS and isinstance(error, FileNotFoundError):
        text += (": there is no system's daemon here; start one (docs/operations.md), or set LOSSD_ADDRESS to where one "
                 'is, or take one of your own: lossd.connect("private:"), or LOSSD_ADDRESS=private:')
    return Unavailable(text)


async def open_socket(address: str) -> socket.socket:
    """A connected socket that never waits."""
    loop = asyncio.get_running_loop()
    kind, target = parse_address(address)
    if kind == "unix":
        return await _connect(loop, socket.AF_UNIX, target)
    if kind == "private":
        # It may have to start the daemon, and waits for it.
        connected = await loop.run_in_executor(None, connected_socket, address, _clock.CONNECT_TIMEOUT)
        connected.setblocking(False)
        return connected
    problem: Optional[OSError] = None
    for family, _, _, _, place in await loop.getaddrinfo(*target, type=socket.SOCK_STREAM):
        try:
            connected = await _connect(loop, family, place)
        except OSError as error:
            problem = problem or error
            continue
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connected
    raise problem or OSError(f"{target[0]} has no address")


async def _connect(loop: asyncio.AbstractEventLoop, family: int, place: Any) -> socket.socket:
    connected = socket.socket(family, socket.SOCK_STREAM)
    try:
        connected.setblocking(False)
        await loop.sock_connect(connected, place)
    except BaseException:
        connected.close()
        raise
    return connected

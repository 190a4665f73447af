"""Frames out of bytes: a state machine without a socket, for the client with threads and the one for asyncio."""

from __future__ import annotations

import struct
from typing import Any, List, NamedTuple, Optional, Tuple

import numpy as np

HELLO, OPEN, MESSAGE, STATUS, CANCEL, CREDIT, PING, GOAWAY, REGION, RELEASE = range(1, 11)
END_STREAM, ACK = 1, 2
HEADER = struct.Struct("<IIIBBH")
PAYLOAD_MAX = 2**32 - 1
#: The longest message that the daemon may send, bytes; HELLO tells it.
MESSAGE_MAX = 4 << 20
PING_MAX = 64

_FROM_SERVER = frozenset((HELLO, MESSAGE, STATUS, CREDIT, PING, GOAWAY, REGION, RELEASE))
_ON_CONNECTION = frozenset((HELLO, PING, GOAWAY, REGION, RELEASE))
_BUFFER = 1 << 16


class BadFrame(Exception):
    """The daemon broke the protocol."""


class Frame(NamedTuple):
    kind: int
    stream: int
    flags: int
    message: bytes
    #: Memory of its own, writable: arrays are views of it.
    payload: memoryview


class FrameReader:
    """`space()` says where the next bytes go, `advance(count)` gives the frames that they complete.

    A payload is read straight to where its arrays will be, except for what came along with its header.
    """

    def __init__(self) -> None:
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._begin = self._end = 0
        self._header: Optional[Tuple[Any, ...]] = None
        self._message: Optional[bytes] = None
        self._payload = memoryview(b"")
        self._filled = 0
        self._has_hello = False

    def space(self) -> memoryview:
        if self._message is not None:
            # The buffer is empty then: its bytes went to the payload first.
            return self._payload[self._filled:]
        needed = HEADER.size if self._header is None else self._header[1]
        if self._begin == self._end:
            self._begin = self._end = 0
        if len(self._buffer) - self._begin < needed or self._end == len(self._buffer):
            rest = bytes(self._view[self._begin:self._end])
            self._buffer = bytearray(max(needed, _BUFFER))
            self._view = memoryview(self._buffer)
            self._view[:len(rest)] = rest
            self._begin, self._end = 0, len(rest)
        return self._view[self._end:]

    def advance(self, count: int) -> List[Frame]:
        """Raises BadFrame; nothing is to be read after that."""
        if self._message is not None:
            self._filled += count
        else:
            self._end += count
        frames: List[Frame] = []
        while True:
            have = self._end - self._begin
            if self._header is None:
                if have < HEADER.size:
                    return frames
                self._header = HEADER.unpack_from(self._buffer, self._begin)
                self._begin += HEADER.size
                self._check(*self._header)
                have -= HEADER.size
            if self._message is None:
                length = self._header[1]
                if have < length:
                    return frames
                self._message = bytes(self._view[self._begin:self._begin + length])
                self._begin += length
                # Not written to: pages come with the bytes, and not with a header that claims 4 GiB.
                self._payload = np.empty(self._header[0], np.uint8).data
                self._filled = 0
            missing = len(self._payload) - self._filled
            part = min(missing, self._end - self._begin)
            if part:
                self._payload[self._filled:self._filled + part] = self._view[self._begin:self._begin + part]
                self._begin += part
                self._filled += part
            if part < missing:
                return frames
            _, _, stream, kind, flags, _ = self._header
            frames.append(Frame(kind, stream, flags, self._message, self._payload))
            self._header = self._message = None

    def _check(self, payload: int, message: int, stream: int, kind: int, flags: int, reserved: int) -> None:
        allowed = END_STREAM if kind == MESSAGE else ACK if kind == PING else 0
        if kind not in _FROM_SERVER:
            raise BadFrame(f"a frame of type 0x{kind:02x}")
        if flags & ~allowed or reserved:
            raise BadFrame(f"flags 0x{flags:02x}, reserved 0x{reserved:04x} on a frame of type {kind}")
        if (stream == 0) != (kind in _ON_CONNECTION):
            raise BadFrame(f"a frame of type {kind} on stream {stream}")
        if (kind == HELLO) == self._has_hello:
            raise BadFrame("a second HELLO" if self._has_hello else "the first frame is no HELLO")
        self._has_hello = True
        if message > (PING_MAX if kind == PING else MESSAGE_MAX):
            raise BadFrame(f"a message of {message} bytes in a frame of type {kind}")
        if payload and kind != MESSAGE:
            raise BadFrame(f"a payload of {payload} bytes in a frame of type {kind}")

"""A client of HTTP/2 that says exactly what it is told, frame by frame, right or wrong."""

import socket
import struct
import time

import hpack
from hyperframe import frame as frames

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
EVALUATE = "/lossd.v1.Evaluator/Evaluate"
FUNCTIONS = "/lossd.v1.Evaluator/ListFunctions"
(NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR,
 REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM) = range(12)


def fields(path=EVALUATE, *more, without=(), **changed):
    """A call's fields; `changed` by name, _ for - and a leading one for a colon."""
    made = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost",
            "content-type": "application/grpc", "te": "trailers"}
    for name, item in changed.items():
        made[(":" + name[1:]) if name.startswith("_") else name.replace("_", "-")] = item
    return [(name, item) for name, item in made.items() if name not in without] + list(more)


def message(data, flag=0):
    return struct.pack(">BI", flag, len(data)) + data


class Peer:
    def __init__(self, address, settings=None, greet=True, timeout=10):
        kind, _, place = address.partition(":")
        if kind == "unix":
            self.socket = socket.socket(socket.AF_UNIX)
            target = place
        else:
            self.socket = socket.socket()
            host, _, port = place.rpartition(":")
            target = host, int(port)
        self.socket.settimeout(timeout)
        self.socket.connect(target)
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.buffer = b""
        self.window = 65535
        self.settings = None
        if greet:
            self.send(PREFACE, frames.SettingsFrame(0, settings=settings or {}))
            self.settings = self.receive()
            # What they say holds from here on.
            self.send(frames.SettingsFrame(0, flags=["ACK"]))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, *items):
        """Frames, or bytes as they are."""
        self.socket.sendall(b"".join(item if isinstance(item, bytes) else item.serialize() for item in items))

    def block(self, items):
        return self.encoder.encode(items, huffman=True)

    def headers(self, stream, items, end=False):
        made = frames.HeadersFrame(stream, self.block(items))
        made.flags.add("END_HEADERS")
        if end:
            made.flags.add("END_STREAM")
        return made

    def data(self, stream, data=b"", end=False):
        made = frames.DataFrame(stream, data)
        if end:
            made.flags.add("END_STREAM")
        return made

    def call(self, stream, data, items=None):
        """Sends a whole unary call."""
        self.send(self.headers(stream, items or fields()), self.data(stream, message(data), end=True))

    def receive(self):
        """The next frame; None: the daemon has closed."""
        while True:
            if len(self.buffer) >= 9:
                made, length = frames.Frame.parse_frame_header(memoryview(self.buffer[:9]))
                if len(self.buffer) >= 9 + length:
                    made.parse_body(memoryview(self.buffer[9:9 + length]))
                    self.buffer = self.buffer[9 + length:]
                    if isinstance(made, frames.HeadersFrame):
                        # In the order that they come, whoever wants them.
                        made.fields = dict(self.decoder.decode(made.data))
                    return made
            try:
                more = self.socket.recv(1 << 20)
            except ConnectionError:
                return None
            if not more:
                return None
            self.buffer += more

    def until(self, condition):
        """Frames up to the first that the condition is true of, this one included."""
        found = []
        while True:
            made = self.receive()
            found.append(made)
            if made is None or condition(made):
                return found

    def answer(self, stream):
        """What comes of a stream: fields, bytes, fields of the trailers, the code of a reset."""
        heads, body = [], b""
        while True:
            made = self.receive()
            if made is None:
                raise ConnectionError("the daemon has closed")
            if isinstance(made, frames.HeadersFrame):
                if made.stream_id != stream:
                    continue
                heads.append(made.fields)
            elif made.stream_id != stream:
                continue
            elif isinstance(made, frames.DataFrame):
                body += made.data
            elif isinstance(made, frames.RstStreamFrame):
                return heads, body, made.error_code
            if "END_STREAM" in made.flags:
                return heads, body, None

    def status(self, stream):
        heads, _, _ = self.answer(stream)
        return int(heads[-1]["grpc-status"]) if heads and "grpc-status" in heads[-1] else None

    def end(self):
        """The connection's end: GOAWAY's code and text, or None where it is closed without one."""
        said = None
        while True:
            made = self.receive()
            if made is None:
                return said
            if isinstance(made, frames.GoAwayFrame):
                said = made.error_code, made.additional_data.decode()

    def ping(self, data=b"12345678"):
        """Whether a PING comes back in time."""
        begin = time.monotonic()
        self.send(frames.PingFrame(0, data))
        while True:
            made = self.receive()
            if made is None:
                return None
            if isinstance(made, frames.PingFrame) and "ACK" in made.flags and made.opaque_data == data:
                return time.monotonic() - begin

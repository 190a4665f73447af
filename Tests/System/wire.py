"""A lossd client of the tests' own: frames and protobuf by hand, standard library alone.

It says exactly what it is told, right or wrong, so that tests can break every rule of docs/protocol.md.
"""

import array
import mmap
import os
import socket
import struct
import time

PREFACE = b"LOSSD/1\n"
HELLO, OPEN, MESSAGE, STATUS, CANCEL, CREDIT, PING, GOAWAY, REGION, RELEASE = range(1, 11)
END_STREAM, ACK = 1, 2
EVALUATE = "/lossd.v1.Evaluator/Evaluate"
STREAM = "/lossd.v1.Evaluator/EvaluateStream"
FUNCTIONS = "/lossd.v1.Evaluator/ListFunctions"
DAEMON_STATUS = "/lossd.v1.Daemon/GetStatus"

# name: (wire number, struct format, bytes)
TYPES = {
    "float32": (1, "f", 4), "float64": (2, "d", 8), "float16": (3, "e", 2), "bfloat16": (4, "H", 2),
    "int64": (5, "q", 8), "int32": (6, "i", 4), "int16": (7, "h", 2), "int8": (8, "b", 1),
    "uint8": (9, "B", 1), "bool": (10, "B", 1),
}
TYPE_NAMES = {number: name for name, (number, _, _) in TYPES.items()}


# ---- protobuf ----

def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while True:
        byte = value & 127
        value >>= 7
        if value:
            out.append(byte | 128)
        else:
            out.append(byte)
            return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value)


def block(field, data):
    if isinstance(data, str):
        data = data.encode()
    return varint(field << 3 | 2) + varint(len(data)) + data


def double(field, value):
    return varint(field << 3 | 1) + struct.pack("<d", value)


def parse(data):
    """{field: [values]}; a varint is an int, fixed64 a float, a block bytes."""
    fields, at = {}, 0

    def take():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = take()
        kind = key & 7
        if kind == 0:
            value = take()
        elif kind == 1:
            value = struct.unpack_from("<d", data, at)[0]
            at += 8
        elif kind == 2:
            length = take()
            value = data[at:at + length]
            at += length
        else:
            raise ValueError(f"wire type {kind}")
        fields.setdefault(key >> 3, []).append(value)
    return fields


# ---- frames ----

def frame(kind, stream=0, message=b"", payload=b"", flags=0, reserved=0):
    return struct.pack(
        "<IIIBBH", len(payload), len(message), stream, kind, flags, reserved) + message + payload


def header(kind, stream, message_bytes, payload_bytes, flags=0):
    """The header alone of a frame whose rest may never come."""
    return struct.pack("<IIIBBH", payload_bytes, message_bytes, stream, kind, flags, 0)


def hello(features=(), **limits):
    names = {"max_message_bytes": 2, "max_payload_bytes": 3, "max_streams": 4, "stream_credit": 5}
    return frame(HELLO, 0, block(1, "tests") + b"".join(
        number(names[name], value) for name, value in limits.items()) + b"".join(
        block(6, feature) for feature in features))


def open_call(stream, method, timeout_us=0, credit=0):
    return frame(OPEN, stream, block(1, method) + number(2, timeout_us) + number(3, credit))


class Tensor:
    """Elements as raw little-endian bytes, with a type and a shape."""

    def __init__(self, values, data_type="float32", shape=None):
        if isinstance(values, (bytes, bytearray, memoryview)):
            self.data = bytes(values)
        else:
            values = list(values)
            self.data = struct.pack(f"<{len(values)}{TYPES[data_type][1]}", *values)
        self.data_type = data_type
        size = TYPES[data_type][2]
        self.shape = [len(self.data) // size] if shape is None else list(shape)

    def values(self):
        _, code, size = TYPES[self.data_type]
        return list(struct.unpack(f"<{len(self.data) // size}{code}", self.data))

    def message(self, name, offset):
        return (block(1, name) + number(2, TYPES[self.data_type][0])
                + block(3, b"".join(varint(size) for size in self.shape))
                + block(5, number(1, offset) + number(2, len(self.data))))


class Shared:
    """A tensor that lies in a region of shared memory, or the place for one that shall."""

    def __init__(self, region, offset, length, data_type="float32", shape=()):
        self.region, self.offset, self.length = region, offset, length
        self.data_type, self.shape, self.data = data_type, list(shape), b""

    def range(self):
        return number(1, self.region) + number(2, self.offset) + number(3, self.length)

    def message(self, name, _):
        return (block(1, name) + number(2, TYPES[self.data_type][0])
                + block(3, b"".join(varint(size) for size in self.shape)) + block(6, self.range()))


def value(item):
    if isinstance(item, bool):
        return number(1, item)
    if isinstance(item, int):
        return number(2, item)
    if isinstance(item, float):
        return double(3, item)
    return block(4, item)


def part(batches, rows, state):
    """What a part of a data set came to, as a field of a stream's first request."""
    sums = b"".join(block(4, block(1, name) + double(2, value)) for name, value in state.items())
    return block(6, number(1, batches) + number(2, rows) + sums)


def request(function="", inputs=None, attributes=None, outputs=(), id=0, parts=()):
    """An EvaluateRequest and its payload. `parts`: Summaries to go on from, as Response has them."""
    message, payload = bytearray(block(1, function) if function else b""), bytearray()
    for name, tensor in (inputs or {}).items():
        payload += bytes(-len(payload) % 64)
        message += block(2, tensor.message(name, len(payload)))
        payload += tensor.data
    for name, item in (attributes or {}).items():
        message += block(3, block(1, name) + block(2, value(item)))
    for name in outputs:
        into = outputs[name] if isinstance(outputs, dict) else None
        message += block(4, block(1, name) + (block(2, into.range()) if into else b""))
    for item in parts:
        message += part(item["batches"], item["rows"], item["state"])
    return bytes(message + number(5, id)), bytes(payload)


class Response:
    """An EvaluateResponse: outputs by name, and the summary where there is one."""

    def __init__(self, message, payload):
        fields = parse(message)
        self.id = fields.get(1, [0])[0]
        self.outputs = {}
        for item in fields.get(2, []):
            tensor = parse(item)
            shape = []
            packed, at = b"".join(tensor.get(3, [])), 0
            while at < len(packed):
                size, shift = 0, 0
                while True:
                    byte = packed[at]
                    at += 1
                    size |= (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        break
                shape.append(size)
            name, data_type = tensor[1][0].decode(), TYPE_NAMES[tensor[2][0]]
            if 6 in tensor:
                place = parse(tensor[6][0])
                self.outputs[name] = Shared(
                    place[1][0], place.get(2, [0])[0], place.get(3, [0])[0], data_type, shape)
                continue
            place = parse(tensor.get(5, [b""])[0])
            offset, length = place.get(1, [0])[0], place.get(2, [0])[0]
            assert offset % 64 == 0 and offset + length <= len(payload)
            self.outputs[name] = Tensor(payload[offset:offset + length], data_type, shape)
        self.summary = None
        if 3 in fields:
            summary = parse(fields[3][0])

            def pairs(field):
                entries = [parse(entry) for entry in summary.get(field, [])]
                return {entry[1][0].decode(): entry.get(2, [0.0])[0] for entry in entries}

            self.summary = {
                "batches": summary.get(1, [0])[0], "rows": summary.get(2, [0])[0],
                "values": pairs(3), "state": pairs(4)}

    def __getitem__(self, name):
        return self.outputs[name]


class CallError(Exception):
    """A STATUS other than 0."""

    def __init__(self, message):
        fields = parse(message)
        self.code = fields.get(1, [0])[0]
        self.text = fields.get(2, [b""])[0].decode()
        self.metadata = {}
        for item in fields.get(3, []):
            pair = parse(item)
            self.metadata[pair[1][0].decode()] = pair.get(2, [b""])[0]
        super().__init__(f"{self.code}: {self.text}")


class Memory:
    """A region that the daemon has made, mapped."""

    def __init__(self, fd, length):
        self.fd = fd
        self.size = os.fstat(fd).st_size
        self.map = mmap.mmap(fd, length)

    def close(self):
        self.map.close()
        os.close(self.fd)


class Connection:
    """A socket and the frames on it. `address` is unix:PATH or tcp:HOST:PORT."""

    def __init__(self, address, greet=True, timeout=30, **limits):
        kind, rest = address.split(":", 1)
        if kind == "unix":
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(rest)
        else:
            host, port = rest.rsplit(":", 1)
            self.socket = socket.create_connection((host, int(port)), timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.next_stream = 1
        #: Those that have come, in order.
        self.descriptors = []
        if greet:
            self.send(PREFACE + hello(**limits))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()
        while self.descriptors:
            os.close(self.descriptors.pop())

    def send(self, data):
        self.socket.sendall(data)

    def send_with_descriptors(self, data, descriptors):
        self.socket.sendmsg(
            [data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])

    def read(self, count):
        data = bytearray(count)
        view, have = memoryview(data), 0
        while have < count:
            if self.socket.family == socket.AF_UNIX:
                part, ancillary, _, _ = self.socket.recvmsg_into(
                    [view[have:]], socket.CMSG_SPACE(64), socket.MSG_CMSG_CLOEXEC)
                for _, _, passed in ancillary:
                    self.descriptors.extend(array.array("i", passed))
            else:
                part = self.socket.recv_into(view[have:])
            if part == 0:
                raise EOFError(f"end of file after {have} of {count} bytes")
            have += part
        return bytes(data)

    def receive(self):
        """(type, stream, flags, message, payload)"""
        payload, message, stream, kind, flags, reserved = struct.unpack("<IIIBBH", self.read(16))
        assert reserved == 0
        return kind, stream, flags, self.read(message), self.read(payload)

    def receive_of(self, stream, skip=(HELLO, CREDIT)):
        """The next frame of this stream, others being thrown away."""
        while True:
            item = self.receive()
            if item[1] == stream and item[0] not in skip:
                return item
            if item[0] == GOAWAY:
                raise CallError(parse(item[3])[2][0])

    # ---- shared memory

    def ask_region(self, id, length):
        self.send(frame(REGION, 0, number(1, id) + number(2, length)))

    def release(self, id):
        self.send(frame(RELEASE, 0, number(1, id)))

    def answer_of(self, kind, id):
        """The next answer to a REGION or RELEASE, others than those being thrown away: its code and text."""
        while True:
            got, _, _, message, _ = self.receive()
            if got == GOAWAY:
                raise CallError(parse(message)[2][0])
            if got == kind:
                break
        fields = parse(message)
        assert fields.get(1, [0])[0] == id
        status = parse(fields[2][0]) if 2 in fields else {}
        return status.get(1, [0])[0], status.get(2, [b""])[0].decode()

    def region(self, id, length):
        """A region that the daemon makes; CallError where it does not."""
        self.ask_region(id, length)
        code, text = self.answer_of(REGION, id)
        if code:
            assert not self.descriptors
            raise CallError(number(1, code) + block(2, text))
        return Memory(self.descriptors.pop(0), length)

    def open(self, method, **options):
        stream = self.next_stream
        self.next_stream += 2
        self.send(open_call(stream, method, **options))
        return stream

    def call(self, method, message=b"", payload=b"", **options):
        """A unary call; returns message and payload of its response."""
        stream = self.open(method, **options)
        self.send(frame(MESSAGE, stream, message, payload, END_STREAM))
        return self.finish(stream)

    def finish(self, stream):
        kind, _, flags, message, payload = self.receive_of(stream)
        if kind == STATUS:
            raise CallError(message)
        assert kind == MESSAGE and flags == END_STREAM
        return message, payload

    def start(self, function, inputs=None, attributes=None, outputs=(), **options):
        """Sends an Evaluate without waiting; returns its stream for `finish`."""
        stream = self.open(EVALUATE, **options)
        self.send(frame(
            MESSAGE, stream, *request(function, inputs, attributes, outputs), END_STREAM))
        return stream

    def evaluate(self, function, inputs=None, attributes=None, outputs=(), **options):
        return Response(*self.finish(self.start(function, inputs, attributes, outputs, **options)))

    def ping(self, data=b"ping"):
        start = time.perf_counter()
        self.send(frame(PING, 0, data))
        while True:
            kind, _, flags, message, _ = self.receive()
            if kind == PING and flags == ACK:
                assert message == data
                return time.perf_counter() - start

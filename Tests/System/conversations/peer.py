"""A connection that checks every byte which the daemon sends: what may come, on which stream, and how often."""

import collections
import errno
import socket
import struct

from wire import (
    ACK, CANCEL, CREDIT, END_STREAM, EVALUATE, GOAWAY, HELLO, MESSAGE, OPEN, PING, PREFACE, REGION, RELEASE, STATUS, STREAM,
    CallError, Response, frame, hello, number, open_call, parse)

HEADER = 16
INVALID_ARGUMENT, INTERNAL = 3, 13


class Violation(AssertionError):
    """The daemon said what it may not."""


def gaps(message, payload):
    """The payload's bytes that are no result's."""
    left = bytearray(payload)
    for item in parse(message).get(2, []):
        place = parse(parse(item).get(5, [b""])[0])
        offset, length = place.get(1, [0])[0], place.get(2, [0])[0]
        left[offset:offset + length] = bytes(length)
    return left


class Call:
    """What is known of one stream."""

    def __init__(self, method, credit, timeout_us):
        self.method, self.credit, self.limited, self.timed = method, credit, credit != 0, timeout_us != 0
        self.answers, self.has_ended, self.is_done = 0, False, False
        # Codes that it may end with, beyond those that any call may; what its answer's outputs are.
        self.codes, self.expected = set(), None
        self.is_wrong = False


class Peer:
    """Never waits: what the socket does not take stays in `outbox`."""

    def __init__(self, address, name, features=(), greet=True, **limits):
        self.name, self.features = name, features
        kind, rest = address.split(":", 1)
        if kind == "unix":
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(rest)
        else:
            host, port = rest.rsplit(":", 1)
            self.socket = socket.create_connection((host, int(port)))
        self.socket.setblocking(False)
        self.outbox, self.inbox, self.rest = bytearray(), bytearray(), b""
        self.calls, self.last_stream, self.pings = {}, 0, collections.deque()
        # What of the rules it has broken, so that the connection may end; whether it listens now.
        self.is_bad, self.is_open, self.listens, self.may_end = not greet, True, True, False
        self.heard_hello, self.heard_goaway = False, False
        self.talked, self.heard = 0, 0
        if greet:
            self.say(PREFACE + hello(features=features, **limits))

    # ---- Talking

    def say(self, data):
        self.outbox += data
        self.talked += len(data)

    def say_part(self, data, count):
        """The first bytes now, the others when `say_rest` is called."""
        self.say(data[:count])
        self.rest = data[count:]

    def say_rest(self):
        self.say(self.rest)
        self.rest = b""

    def open(self, method, timeout_us=0, credit=0, gap=0):
        self.last_stream += 1 + gap
        self.calls[self.last_stream] = Call(method, credit, timeout_us)
        self.say(open_call(self.last_stream, method, timeout_us=timeout_us, credit=credit))
        return self.last_stream

    def grant(self, stream, messages):
        call = self.calls.get(stream)
        if call:
            call.credit += messages
        self.say(frame(CREDIT, stream, number(1, messages)))

    def ping(self, data):
        self.pings.append(data)
        self.say(frame(PING, 0, data))

    def close(self):
        if self.is_open:
            self.is_open = False
            self.socket.close()

    # ---- Hearing

    def pump(self):
        """Writes and reads what goes now."""
        if not self.is_open:
            return
        try:
            while self.outbox:
                count = self.socket.send(memoryview(self.outbox)[:1 << 16])
                del self.outbox[:count]
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise
            self.outbox.clear()
        while self.listens and self.is_open:
            try:
                data = self.socket.recv(1 << 18)
            except BlockingIOError:
                break
            except ConnectionResetError:
                data = b""
            if not data:
                self.ended()
                break
            self.heard += len(data)
            self.inbox += data
            self.read()

    def ended(self):
        self.check(self.is_bad or self.may_end or self.heard_goaway, "the connection ended")
        self.check(not self.inbox or self.is_bad or self.may_end, f"it ended after {len(self.inbox)} bytes of a frame")
        self.close()

    def check(self, holds, text):
        if not holds:
            raise Violation(f"{self.name}: {text}")

    def read(self):
        while len(self.inbox) >= HEADER:
            payload, message, stream, kind, flags, reserved = struct.unpack_from("<IIIBBH", self.inbox)
            if len(self.inbox) < HEADER + message + payload:
                return
            body = bytes(self.inbox[HEADER:HEADER + message + payload])
            del self.inbox[:HEADER + message + payload]
            self.check(reserved == 0, f"reserved bits {reserved}")
            self.take(kind, stream, flags, body[:message], body[message:])

    def take(self, kind, stream, flags, message, payload):
        if not self.heard_hello:
            # A connection that never said HELLO may be told goodbye at once.
            self.check(kind == HELLO or self.is_bad, f"the first frame is {kind}")
            self.heard_hello = True
        elif kind == HELLO:
            self.check(False, "HELLO a second time")
        self.check(not payload or kind == MESSAGE, f"a payload on {kind}")
        if self.is_bad:
            # Nobody can say any more what was understood.
            return
        if kind in (HELLO, PING, GOAWAY, REGION, RELEASE):
            self.check(stream == 0, f"{kind} on stream {stream}")
            self.control(kind, flags, message)
            return
        self.check(kind in (MESSAGE, STATUS, CREDIT), f"a frame of type {kind}")
        call = self.calls.get(stream)
        self.check(call is not None, f"{kind} on stream {stream}, which was never opened")
        self.check(not call.is_done, f"{kind} on stream {stream}, which is over")
        if kind == STATUS:
            self.status(stream, call, message)
        elif kind == MESSAGE:
            self.answer(stream, call, flags, message, payload)
        else:
            self.check(call.method == STREAM, f"credit for a call of {call.method}")
            self.check(parse(message).get(1, [0])[0] > 0, "credit for nothing")

    def control(self, kind, flags, message):
        if kind == PING:
            self.check(flags == ACK, "a PING of the daemon's own")
            self.check(self.pings and self.pings.popleft() == message or self.is_bad, f"a PING's answer {message!r}")
        elif kind == GOAWAY:
            fields = parse(message)
            code = parse(fields.get(2, [b""])[0]).get(1, [0])[0]
            self.heard_goaway = True
            self.check(code == 0 or self.is_bad or self.may_end, f"GOAWAY: {fields}")
            if code == 0:
                for stream, call in self.calls.items():
                    call.is_done |= stream > fields.get(1, [0])[0]

    def status(self, stream, call, message):
        error = CallError(message)
        self.check(1 <= error.code <= 16, f"STATUS {error.code} on stream {stream}")
        self.check(error.text.isprintable() or "\ufffd" in error.text, f"STATUS with the text {error.text!r}")
        self.check(
            error.code not in (2, INTERNAL) or error.code in call.codes, f"stream {stream}, {call.method}: {error}")
        if call.expected is not None and not call.is_wrong:
            # Cancelled, too late, no room, draining: by what this side did.
            self.check(error.code in {1, 4, 8, 14} | call.codes, f"stream {stream}, which was good: {error}")
        call.is_done = True

    def answer(self, stream, call, flags, message, payload):
        self.check(call.has_ended or call.method == STREAM, f"an answer on stream {stream} before its END_STREAM")
        self.check(flags & ~END_STREAM == 0, f"flags {flags}")
        call.is_done = bool(flags & END_STREAM)
        if call.method not in (EVALUATE, STREAM):
            self.check(call.is_done, "a unary answer without END_STREAM")
            return
        response = Response(message, payload)
        self.check(not any(gaps(message, payload)), f"stream {stream}: bytes between the results: {gaps(message, payload)!r}")
        if call.method == EVALUATE:
            self.check(call.is_done, "a unary answer without END_STREAM")
        elif response.summary is None:
            call.answers += 1
            self.check(not call.limited or call.answers <= call.credit, f"{call.answers} answers, credit {call.credit}")
            self.check(not call.is_done, "the end of a stream without its Summary")
        else:
            self.check(not response.outputs, "a Summary with outputs")
        if call.expected is not None and not call.is_wrong and response.summary is None:
            found = {name: tensor.data for name, tensor in response.outputs.items()}
            self.check(found == call.expected, f"stream {stream}: {found}, expected {call.expected}")

    @property
    def open_calls(self):
        return [stream for stream, call in self.calls.items() if not call.is_done]

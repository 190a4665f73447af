#!/usr/bin/env python3
"""make_seeds.py FOLDER: honest inputs for every program of Fuzz/Targets, a folder each, where the committed corpora began.

The committed corpora are what is left of these and of what fuzzing found after `scripts/fuzz.sh merge`.
"""

import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "Tests" / "System"))

import wire  # noqa: E402
from wire import (  # noqa: E402
    ACK, CANCEL, CREDIT, END_STREAM, EVALUATE, GOAWAY, MESSAGE, PING, REGION, RELEASE, STATUS, STREAM, Tensor,
    block, double, frame, hello, number, open_call, request)

MATRIX = Tensor([0.5, -1, 2, 0, 1, 3], shape=[2, 3])
CALLS = {
    "sigmoid": ("sigmoid", {"input": MATRIX}, {}, ["output", "grad.input"]),
    "softmax": ("softmax", {"input": MATRIX}, {"dim": 0, "dtype": "float64"}, ["output"]),
    "log_softmax": ("log_softmax", {"input": MATRIX, "grad.output": MATRIX}, {"dim": -1}, ["grad.input"]),
    "cross": ("cross_entropy", {"input": MATRIX, "target": Tensor([2, -100], "int64")},
              {"reduction": "sum", "label_smoothing": 0.1, "ignore_index": -100}, ["loss", "grad.input"]),
    "soft": ("cross_entropy", {"input": MATRIX, "target": Tensor([0.2, 0.3, 0.5] * 2, shape=[2, 3]),
                               "weight": Tensor([1, 2, 3])}, {}, ["loss", "grad.input", "grad.target"]),
    "nll": ("nll_loss", {"input": MATRIX, "target": Tensor([1, 0], "int64")}, {"reduction": "none"}, ["loss"]),
    "bce": ("binary_cross_entropy", {"input": Tensor([0.1, 0.9]), "target": Tensor([0, 1])}, {}, []),
    "logits": ("binary_cross_entropy_with_logits",
               {"input": Tensor([0.1, 0.9], "float64"), "target": Tensor([0, 1], "float64"),
                "pos_weight": Tensor([2], "float64")}, {}, ["loss", "grad.input", "grad.target"]),
    "multi": ("multilabel_soft_margin_loss", {"input": MATRIX, "target": Tensor([0, 1] * 3, shape=[2, 3])}, {}, []),
    "half": ("softmax", {"input": Tensor([1, 2, 3], "float16")}, {}, []),
    "bytes": ("sigmoid", {"input": Tensor([1, 2, 3], "uint8")}, {}, []),
    "bools": ("cross_entropy", {"input": MATRIX, "target": Tensor([1, 0], "uint8")}, {}, []),
    "scalar": ("sigmoid", {"input": Tensor([1.5], shape=[])}, {}, []),
    "empty": ("sigmoid", {"input": Tensor([], shape=[0, 7])}, {}, []),
}


def frames():
    talk = hello(features=["shm"], max_message_bytes=4096)
    calls = b"".join(
        open_call(2 * index + 1, EVALUATE, 1000, 1) + frame(MESSAGE, 2 * index + 1, *request(*call), END_STREAM)
        for index, call in enumerate(list(CALLS.values())[:3]))
    control = (frame(PING, 0, b"12345678") + frame(PING, 0, b"1", flags=ACK) + frame(CREDIT, 1, number(1, 5))
               + frame(CANCEL, 1) + frame(REGION, 0, number(1, 1) + number(2, 4096))
               + frame(RELEASE, 0, number(1, 1)) + frame(GOAWAY, 0, number(1, 3)))
    answers = hello(max_streams=8) + frame(STATUS, 1, number(1, 3) + block(2, "no")) + frame(
        MESSAGE, 3, b"", bytes(70), END_STREAM) + frame(PING, 0, b"x")
    for name, switches, stream in (
            ("calls", 0, talk + calls), ("control", 8, talk + control), ("direct", 16, talk + calls),
            ("wait", 24, talk + calls + control), ("drop", 96, talk + calls), ("answers", 1, answers),
            ("small", 34, talk + calls), ("http", 0, b"GET / HTTP/1.1\r\n\r\n"), ("plain", 4, talk + control)):
        yield name, bytes([switches, 3, 1, 16, 7]) + stream


def messages():
    status = number(1, 3) + block(2, "text") + block(3, block(1, "key-bin") + block(2, b"\x00\xff"))
    value = [number(1, 1), number(2, -5), double(3, 0.5), block(4, "mean")]
    function = (block(1, "f") + block(2, "loss") + block(3, "summary") + block(
        4, block(1, "input") + block(2, "help") + block(3, b"\x01\x02") + number(4, 1)) + block(
        5, block(1, "loss") + number(3, 1)) + b"".join(block(
            6, block(1, "a") + block(3, "int") + block(5, item) + block(6, item) + block(8, "x")) for item in value)
        + block(7, "p") + block(8, "1.0"))
    limits = b"".join(number(field, 1 << field) for field in range(1, 15))
    latency = block(1, "f") + number(2, 7) + b"".join(double(field, 0.25) for field in range(3, 8))
    daemon = (block(1, "0.1") + b"".join(number(field, field) for field in range(2, 11)) + block(
        11, block(1, "/m") + block(2, "f") + number(3, 13) + number(4, 9)) + block(12, latency) + block(14, limits)
        + block(15, number(1, 1)) + block(18, "avx2") + number(20, 1) + block(21, "unix:/x"))
    plugin = (block(1, "p") + block(2, "1") + block(3, "p.so") + block(4, "f") + block(5, "none") + number(7, 2)
              + block(9, b"\x01\x02"))
    tensor = block(1, "loss") + number(2, 1) + block(3, b"\x02\x03")
    summary = number(1, 2) + number(2, 20) + block(3, block(1, "loss") + double(2, 0.5)) + block(
        4, block(1, "loss_sum") + double(2, 9))
    response = number(1, 7) + block(2, tensor + block(5, number(2, 24))) + block(
        2, tensor + block(4, bytes(24))) + block(2, tensor + block(6, number(1, 1) + number(3, 24))) + block(3, summary)
    inline = block(1, "sigmoid") + block(2, tensor + block(4, bytes(24))) + b"".join(
        block(3, block(1, f"a{index % 3}") + block(2, item)) for index, item in enumerate(value)) + block(
        4, block(1, "output") + block(2, number(1, 1) + number(3, 24)))
    kinds = [
        hello(features=["shm", "x"], max_message_bytes=1 << 20, stream_credit=4)[16:],
        open_call(1, STREAM, 500, 3)[16:] + block(4, block(1, "key") + block(2, "v")), status, number(1, 3),
        number(1, 9) + block(2, status), number(1, 1) + number(2, 4096), number(1, 1) + block(2, status),
        block(1, "sigmoid"), block(1, function) * 2, b"", daemon, b"", block(1, "p.so") + block(2, "process"),
        block(1, "p"), block(1, "p"), block(1, plugin) * 2, block(1, plugin), inline, response]
    for index, message in enumerate(kinds):
        yield f"kind{index}", bytes([index]) + message
    for name, call in CALLS.items():
        yield name, bytes([17]) + request(*call)[0]
    for index, text in enumerate((b"plain ASCII", "\u00e4\u20ac\U0001f600\ud7ff\uffff".encode(), b"\xed\xa0\x80", b"a\0b", b"\xf4\x90\x80\x80")):
        yield f"text{index}", b"\x13" + text


def requests():
    for name, call in CALLS.items():
        message, payload = request(*call)
        yield name, struct.pack("<H", len(message)) + message + payload


def plans():
    # One plain request of each function: no attribute, loss and gradient, two dimensions, all inputs alike or labels.
    for index in range(8):
        for name, labels in (("alike", 0), ("labels", 2 << 2)):
            yield f"function{index}-{name}", bytes(
                [index] + [0] * 5 + [3, 2, 8, 12, 0, 0, 0, 1, labels | 2, 4, 1, 2, 3, 4, 5, 6, 7, 8])


def npy(descr, shape, data=b"", fortran=False, version=1):
    text = f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + data


def safetensors(text, data=b""):
    return struct.pack("<Q", len(text)) + text.encode() + data


def files():
    yield "f4", npy("<f4", "(2, 3)", bytes(24))
    yield "scalar", npy("<f8", "()", bytes(8))
    yield "v2", npy("|V2", "(3L,)", bytes(6), version=2)
    yield "v3", npy("|b1", "(0, 5)", version=3)
    yield "fortran", npy("<i8", "(1,)", bytes(8), True)
    yield "big", npy(">f4", "(1,)", bytes(4))
    yield "structured", npy("<f4", "(1,)", bytes(4)).replace(b"'<f4'", b"[('a', '<f4')]")
    yield "one", safetensors('{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}', bytes(24))
    yield "two", safetensors(
        '{"__metadata__":{"k":"v\\u0041\\ud83d\\ude00"},"b":{"dtype":"BF16","shape":[],"data_offsets":[8,10]},'
        '"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}} ', bytes(10))
    yield "unknown", safetensors('{"q":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[0,3]}}', bytes(3))
    yield "nothing", safetensors("{}")
    yield "zip", b"PK\x03\x04" + bytes(20)


def text(value):
    return struct.pack("<I", len(value)) + value.encode()


def plan(outputs):
    """Of two rows: rows, workspace, scratch, cost, then type, flags, value, rank and shape of each output."""
    data = struct.pack("<qQQdI", 2, 0, 0, 100.0, len(outputs))
    for data_type, flags, shape in outputs:
        data += struct.pack(f"<4I{len(shape)}q", data_type, flags, 0, len(shape), *shape)
    return data


def doubles(*values):
    return struct.pack(f"<I{len(values)}d", len(values), *values)


def declaration():
    value = struct.pack("<Id", 3, 0.5)
    integer, string, none = struct.pack("<Iq", 2, 7), struct.pack("<I", 4) + text("mean"), struct.pack("<Iq", 0, 0)
    function = struct.pack("<I", 2) + text("my_loss") + text("a loss")
    function += struct.pack("<I", 2) + b"".join(
        text(name) + text("help") + struct.pack("<II", 0x1E, 1) for name in ("input", "target"))
    function += struct.pack("<I", 2) + text("loss") + text("") + struct.pack("<Ii", 1, -1) + text(
        "grad.input") + text("") + struct.pack("<Ii", 0, 0)
    function += struct.pack("<I", 3) + text("alpha") + text("") + struct.pack("<II", 3, 0) + value * 3 + struct.pack(
        "<I", 0) + text("n") + text("") + struct.pack("<II", 2, 1) + none + integer * 2 + struct.pack("<I", 0) + text(
        "reduction") + text("") + struct.pack("<II", 4, 0) + string + none * 2 + struct.pack("<I", 2) + text(
        "mean") + text("sum")
    function += struct.pack("<I", 2) + text("loss_sum") + text("weight_sum") + struct.pack("<I", 1) + text("loss")
    return struct.pack("<II", 1, 1) + text("mine") + text("1.0") + struct.pack("<I", 1) + function + b"\x01\x01"


def workers():
    def say(state, place, *said):
        return bytes([state, place]) + b"".join(
            bytes([switches | len(data) >> 8, len(data) & 255]) + data for switches, data in said)

    answer, planned = 0x60, struct.pack("<I", 1)
    computed, none = struct.pack("<II", 2, 0), struct.pack("<I", 0)
    error = struct.pack("<II", 0, 3) + text("it is wrong")
    for place in range(8):
        for name, outputs in (("loss", [(1, 2, []), (1, 0, [2, 2])]), ("output", [(1, 0, [2, 2]), (1, 0, [2, 2])])):
            yield f"plan{place}-{name}", say(2, place, (answer, planned + plan(outputs)))
            head = struct.pack("<II", 2, 1) + plan(outputs) + doubles(1, 2) * 2 + struct.pack("<I", 80)
            yield f"small{place}-{name}", say(2, place, (answer, head + bytes(-(len(head) + 16) % 64) + bytes(80)))
        yield f"run{place}", say(3, place, (answer, computed + doubles(1, 2) * 2 + none))
        yield f"values{place}", say(5, place, (answer, struct.pack("<III", 3, 1, 1) + struct.pack("<d", 0.5)))
        yield f"merged{place}", say(6, place, (answer, struct.pack("<I", 4) + doubles(1, 2)))
    yield "failed", say(2, 0, (answer, error))
    yield "again", say(4, 0, (answer, planned + plan([(1, 0, [2, 2])])))
    yield "ready", say(0, 0, (0x20, b""))
    yield "refused", say(0, 0, (0x40, struct.pack("<I", 9) + text("no")))
    yield "noise", say(1, 0, (0, bytes(range(40))))
    yield "declaration", b"\x07" + declaration()


def library(needed="libc.so.6", stack=6, kind=3, machine=62):
    """A shared library of headers alone."""
    names = b"\0" + needed.encode() + b"\0"
    dynamic_at, names_at = 64 + 3 * 56, 64 + 3 * 56 + 48
    size = names_at + len(names)
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack(
        "<HHIQQQIHHHHHH", kind, machine, 1, 0, 64, 0, 0, 64, 56, 3, 64, 0, 0)

    def segment(kind, flags, offset, length):
        return struct.pack("<IIQQQQQQ", kind, flags, offset, offset, offset, length, length, 8)

    dynamic = struct.pack("<qqqqqq", 1, 1, 5, names_at, 0, 0)
    return head + segment(1, 5, 0, size) + segment(2, 6, dynamic_at, 48) + segment(
        0x6474E551, stack, 0, 0) + dynamic + names


def libraries():
    yield "good", b"\0" + library()
    yield "swift", b"\0" + library("libswiftCore.so")
    yield "stack", b"\0" + library(stack=7)
    yield "program", b"\0" + library(kind=2)
    yield "arm", b"\0" + library(machine=183)
    yield "short", b"\0\x7fELF"
    yield "records", (b"\x01" + b"1700000000.123456789 SIGSEGV plugin example 1.0, function f\n"
                      b"1700000001.000000000 exit plugin example 1.0, function g\nnoise\n")


def settings():
    yield "file", b"\0" + (
        b"# all kinds\nlisten: [unix:/run/x.sock, 'tcp:[::1]:5677']\nworkers: 2\nlimits:\n  payload_bytes: 1 GiB\n"
        b"  hello_timeout: 5s\nplugins:\n  pins:\n    - a.so=" + b"ab" * 32 + b"\nlog_level: info\nsocket_mode: \"0660\"\n")
    yield "alias", b"\0a: &x [1, 2]\nb: *x\n<<: *x\n"
    yield "deep", b"\0" + b"[" * 40 + b"]" * 40
    yield "flow", b'\0{limits: {streams: "8", "total_bytes": !!str 1TiB}, workers: ~}'
    yield "documents", b"\0--- {}\n...\n---\nworkers: |\n  3\n"
    for index, address in enumerate(("unix:/run/lossd/lossd.sock", "tcp:localhost", "tcp:[::1]:0", "tcp:h:99999")):
        yield f"address{index}", b"\x01" + address.encode()
    yield "outcome", b"\x02pid=12\nbegun=1\ndone=1\nfailure=a b\n"
    for index, value in enumerate((
            "4 MiB", "0", "30s", "2min", "true", "off", "0660", "info", "/a,/b", "unix:/x,tcp:h:1", "owner",
            "a.so=" + "0" * 64, "9223372036854775807TiB", "-1", "1024", "500ms", "process")):
        for setting in range(index % 3, 60, 3):
            yield f"setting{setting}-{index}", bytes([3 + setting]) + value.encode()


def h2(kind, flags=0, stream=0, body=b""):
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


def http2():
    def fields(path, *more):
        every = [(":method", "POST"), (":scheme", "http"), (":path", path), ("te", "trailers"),
                 ("content-type", "application/grpc"), *more]
        return b"".join(b"\0" + bytes([len(name)]) + name.encode() + bytes([len(item)]) + item.encode()
                        for name, item in every)

    def call(stream, *more):
        return h2(1, 4, stream, fields("/a.B/C", *more)) + h2(0, 1, stream, b"\0\0\0\0\2ab")
    control = (h2(6, 0, 0, b"12345678") + h2(8, 0, 0, b"\0\0\1\0") + h2(2, 0, 5, b"\0\0\0\0\1") + h2(42)
               + h2(4, 0, 0, b"\0\4\0\0\0\x0a") + h2(3, 0, 1, b"\0\0\0\x08") + h2(7, 0, 0, bytes(8)))
    talks = {
        "calls": h2(4) + call(1) + call(3, ("grpc-timeout", "5S")) + h2(4, 1),
        "control": h2(4) + call(1) + control,
        "window": h2(4, 0, 0, b"\0\4\0\0\0\0") + call(1) + h2(8, 0, 1, b"\0\0\x10\0") + h2(8, 0, 1, b"\0\0\x10\0"),
        "cut": h2(4) + h2(1, 0, 1, fields("/x")[:20]) + h2(9, 4, 1, fields("/x")[20:]) + h2(0, 0, 1, b"\0"),
        "padded": h2(4) + h2(1, 4, 1, fields("/x")) + h2(0, 9, 1, b"\3abcdef\0\0\0"),
        "indexed": h2(4) + h2(1, 5, 1, b"\x83\x86\x44\2/x\x40\2te\x08trailers\xbe\x3f\xe1\x1f"),
        "trailers": h2(4) + h2(1, 4, 1, fields("/x")) + h2(1, 5, 1, b"\0\1x\1y"),
        "refused": h2(4) + h2(1, 4, 2, fields("/x")), "get": h2(4) + h2(1, 5, 1, b"\x82\x86\x84"),
    }
    for index, (name, talk) in enumerate(talks.items()):
        yield name, bytes([index & 1, 3, 5, 16, 7]) + talk


def splits():
    for name, call in CALLS.items():
        function, inputs, attributes, outputs = call
        message = block(1, function)
        for input_name, item in inputs.items():
            # A tensor's message without its place in a payload, and its bytes.
            own = item.message(input_name, 0)
            message += block(2, own[:own.rindex(b"\x2a")] + block(4, item.data))
        message += request("", {}, attributes, outputs, 7)[0]
        yield name, bytes([3, 1, 9, 30]) + message


if __name__ == "__main__":
    root = pathlib.Path(sys.argv[1])
    for target in (frames, messages, requests, plans, files, workers, libraries, settings, http2, splits):
        folder = root / target.__name__.capitalize().replace("Http", "HTTP")
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in target():
            (folder / name).write_bytes(data)

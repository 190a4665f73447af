"""Requests of a random source: good ones whose answers are known, and wrong ones of every kind."""

import struct

from wire import TYPES, Tensor, block, number, request, varint

FLOATS = ["float32", "float64", "float16"]
SIZES = [0, 1, 2, 3, 7, 8, 16, 31, 64, 65, 255, 1000]
HUGE = [1 << 20, 1 << 31, 1 << 33, 1 << 40, 1 << 58, 1 << 60, (1 << 62) - 1, (1 << 63) - 1, -1, 1 << 63]
FUNCTIONS = {
    "sigmoid": ("input",), "softmax": ("input",), "log_softmax": ("input",),
    "binary_cross_entropy": ("input", "target", "weight"),
    "binary_cross_entropy_with_logits": ("input", "target", "weight", "pos_weight"),
    "cross_entropy": ("input", "target", "weight"), "nll_loss": ("input", "target", "weight"),
    "multilabel_soft_margin_loss": ("input", "target", "weight"),
}
ATTRIBUTES = {
    "reduction": ["mean", "sum", "none", "most"], "dim": [-1, 0, 1, 64, -(1 << 63)], "label_smoothing": [0.0, 0.5, 2.0],
    "ignore_index": [-100, 0, 1 << 40], "dtype": ["float32", "float64", "int8"], "other": [True, 1, 1.0, "x"],
}


def good(source):
    """(function, inputs, attributes, outputs) that any daemon computes."""
    rows, classes = source.choice([1, 2, 5, 33]), source.choice([1, 2, 3, 10, 65])
    count = rows * classes

    def floats():
        return Tensor([source.uniform(-4, 4) for _ in range(count)], shape=[rows, classes])

    kind = source.randrange(7)
    if kind == 0:
        return "sigmoid", {"input": floats()}, {}, ["output", "grad.input"]
    if kind == 1:
        return source.choice(["softmax", "log_softmax"]), {"input": floats()}, {"dim": source.choice([-1, 0])}, []
    if kind == 2:
        labels = Tensor([source.randrange(classes) for _ in range(rows)], "int64")
        return "cross_entropy", {"input": floats(), "target": labels}, {}, ["loss", "grad.input"]
    if kind == 3:
        labels = Tensor([source.randrange(classes) for _ in range(rows)], "uint8")
        return "nll_loss", {"input": floats(), "target": labels}, {"reduction": "none"}, []
    if kind == 4:
        ones = Tensor([float(source.randrange(2)) for _ in range(count)], shape=[rows, classes])
        return ("multilabel_soft_margin_loss", {"input": floats(), "target": ones},
                {"reduction": source.choice(["mean", "none"])}, ["loss", "grad.input"])
    if kind == 5:
        # Gaps between results of a few bytes.
        ones = Tensor([float(source.randrange(2)) for _ in range(count)], shape=[rows, classes])
        return ("binary_cross_entropy_with_logits", {"input": floats(), "target": ones}, {"reduction": "none"},
                ["loss", "grad.input"])
    # Too much for a loop, little enough for a worker.
    big = Tensor(struct.pack("<f", source.uniform(-4, 4)) * source.choice([40_000, 250_000]))
    return "sigmoid", {"input": big}, {}, []


def wrong(source):
    """A message and a payload that no function, or hardly one, can take."""
    if source.random() < 0.3:
        message, payload = request(*good(source))
        return mutated(source, message), mutated(source, payload) if source.random() < 0.2 else payload
    function = source.choice(list(FUNCTIONS) + ["", "nothing", "x" * 300])
    message = block(1, function) if source.random() < 0.95 else b""
    payload_bytes = source.choice([0, 0, 4, 64, 1000, 20_000])
    for name in FUNCTIONS.get(function, ("input",)):
        if source.random() < 0.1:
            continue
        rank = source.choice([0, 1, 1, 2, 2, 2, 3, 5, 64, 65])
        shape = [source.choice(HUGE) if source.random() < 0.3 else source.choice(SIZES[:6]) for _ in range(rank)]
        data_type = source.choice(list(TYPES))
        storage = source.randrange(5)
        count = 1
        for size in shape:
            count *= size
        length = count * TYPES[data_type][2] if 0 <= count < 1 << 40 else source.choice(HUGE)
        place = b""
        if storage == 1:
            place = block(4, bytes(length if 0 <= length < 5000 else 3))
        elif storage == 2:
            place = block(6, number(1, 1) + number(2, 64) + number(3, length))
        elif storage > 2:
            place = block(5, number(1, source.choice([0, 0, 64, 1, payload_bytes, 1 << 63])) + number(2, length))
        message += block(2, block(1, name) + number(2, TYPES[data_type][0])
                         + block(3, b"".join(varint(size) for size in shape)) + place)
    for name in source.sample(list(ATTRIBUTES), source.randrange(3)):
        message += request("", {}, {name: source.choice(ATTRIBUTES[name])})[0]
    for name in source.sample(["output", "loss", "grad.input", "grad.target", "grad.weight", "x"], source.randrange(3)):
        message += block(4, block(1, name))
    return message, source.randbytes(payload_bytes)


def mutated(source, data):
    """Bytes with some of them changed, cut off or put in."""
    data = bytearray(data)
    for _ in range(source.randrange(1, 4)):
        place = source.randrange(len(data) + 1)
        kind = source.randrange(4)
        if kind == 0:
            data[place:place] = source.randbytes(source.randrange(1, 9))
        elif kind == 1:
            del data[place:place + source.randrange(1, 9)]
        elif place < len(data):
            data[place] = source.randrange(256)
    return bytes(data)

"""Writes the fuzzer's first inputs to a folder: what a daemon that keeps to the protocol says."""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from fakes import HI, OK3, answer, goaway, listed, status, summary, tensor  # noqa: E402
from wire import ACK, CREDIT, PING, block, frame, number  # noqa: E402

batch = [answer(number(1, n) + tensor(), stream=4, flags=0) + frame(CREDIT, 4, number(1, 1)) for n in range(2)]
SEEDS = {
    "all": HI + answer() + answer(stream=2) + listed("sigmoid", stream=3) + batch[0] + batch[1] + summary(2, 1, 2, 4, True),
    "drain": HI + batch[0] + goaway(4) + summary(1, 1, 2, 4, False) + status(14, "drain", 4) + answer(),
    "refused": HI + goaway(1) + answer(),
    "statuses": HI + status(3, "bad") + status(5, "no", 2) + status(12, "no", 3) + status(3, "batch 0", 4),
    "pings": HI + frame(PING, 0, b"12345678") + frame(PING, 0, bytes(8), flags=ACK) + answer(),
    "inline": HI + answer(tensor(storage=block(4, OK3)), b"", 2),
    "two": HI + answer(tensor(offset=64) + tensor("b"), OK3 + bytes(52) + OK3, 2),
    "fatal": HI + goaway(0, 3, "no"),
}

if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in SEEDS.items():
        for piece in (0, 1, 17):
            (folder / f"{name}-{piece}").write_bytes(bytes([piece]) + data)

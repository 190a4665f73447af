"""Writes the fuzzer's first inputs to a folder: what a daemon that keeps to the protocol says."""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from fakes import HI, OK3, answer, goaway, listed, status, summary, tensor  # noqa: E402
from wire import ACK, CREDIT, HELLO, PING, REGION, RELEASE, block, frame, number  # noqa: E402

batch = [answer(number(1, n) + tensor(), stream=4, flags=0) + frame(CREDIT, 4, number(1, 1)) for n in range(2)]
SHM_HI = frame(HELLO, 0, block(1, "fake") + number(4, 256) + number(5, 8) + block(6, "shm"))
region = [frame(REGION, 0, number(1, n)) for n in (1, 2)]
big = tensor(shape=(300,), storage=block(6, number(1, 2) + number(2, 4096) + number(3, 1200)))
SEEDS = {
    "shared": SHM_HI + region[0] + region[1] + answer(big, b"", 5) + answer() + answer(stream=2),
    "unshared": SHM_HI + frame(REGION, 0, number(1, 1) + block(2, number(1, 8))) + region[1] + answer(
        tensor(shape=(300,), length=1200), bytes(1200), 5),
    "moved": SHM_HI + region[1] + region[0] + status(3, "another size", 5) + frame(RELEASE, 0, number(1, 2)),
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

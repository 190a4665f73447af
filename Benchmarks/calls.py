"""Small calls on one connection: how many a second when they are pipelined, how long one takes alone.

    python Benchmarks/calls.py

cross_entropy of 1 x 10, one loop, a Unix socket and TCP. The client is Python, which costs the unpipelined
calls some microseconds each; beside them stands a bare echo of as many bytes by a Python process.
"""

import pathlib
import socket
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "Tests" / "System"))

from daemon import Daemon  # noqa: E402
from wire import END_STREAM, EVALUATE, MESSAGE, Tensor, frame, open_call, request  # noqa: E402

BATCH, BATCHES, SINGLES = 200, 500, 10_000
CALL = request("cross_entropy", {"input": Tensor(range(10), shape=[1, 10]),
                                 "target": Tensor([3], "int64")})


def call(stream):
    return open_call(stream, EVALUATE) + frame(MESSAGE, stream, *CALL, END_STREAM)


def drain(connection, count, buffer):
    while count > 0:
        count -= connection.recv_into(buffer, min(count, len(buffer)))


def measure(daemon, address):
    from wire import Connection
    with Connection(address) as connection:
        connection.receive()
        stream = 1
        connection.send(call(stream))
        answer = 16 + sum(len(part) for part in connection.receive_of(stream)[3:])
        buffer = bytearray(1 << 20)
        batches = []
        for _ in range(BATCHES):
            batches.append(b"".join(call(stream + 2 * (n + 1)) for n in range(BATCH)))
            stream += 2 * BATCH
        start = time.perf_counter()
        connection.send(batches[0])
        for following in batches[1:] + [b""]:
            connection.send(following)
            drain(connection.socket, answer * BATCH, buffer)
        rate = BATCH * BATCHES / (time.perf_counter() - start)
        times = []
        for _ in range(SINGLES):
            stream += 2
            data = call(stream)
            begin = time.perf_counter()
            connection.send(data)
            drain(connection.socket, answer, buffer)
            times.append(time.perf_counter() - begin)
    times.sort()
    echo = echo_times(len(data), answer)
    print(f"{address.split(':')[0]}: {rate:,.0f} calls/s pipelined; alone p50 "
          f"{times[SINGLES // 2] * 1e6:.1f} us, p99 {times[SINGLES * 99 // 100] * 1e6:.1f} us; a bare "
          f"Python echo p50 {echo[SINGLES // 2] * 1e6:.1f} us")


def echo_times(sent, answered):
    ours, theirs = socket.socketpair()

    def serve():
        buffer = bytearray(sent)
        reply = bytes(answered)
        try:
            for _ in range(SINGLES):
                drain(theirs, sent, buffer)
                theirs.sendall(reply)
        except OSError:
            pass

    import os
    if os.fork() == 0:
        serve()
        os._exit(0)
    data, buffer, times = bytes(sent), bytearray(answered), []
    for _ in range(SINGLES):
        begin = time.perf_counter()
        ours.sendall(data)
        drain(ours, answered, buffer)
        times.append(time.perf_counter() - begin)
    os.wait()
    return sorted(times)


if __name__ == "__main__":
    with Daemon(tcp=True) as running:
        for each in (running.unix, running.tcp):
            measure(running, each)

"""A user who takes all that it gets: connections, calls, memory. Says how much was refused, and holds the rest until its
standard input ends."""

import sys

from load import ADDRESS
from wire import END_STREAM, EVALUATE, MESSAGE, CallError, Connection, Tensor, frame, header, request


def main():
    held, refused = [], 0
    for _ in range(60):
        try:
            connection = Connection(ADDRESS)
            connection.ping()
            held.append(connection)
        except (CallError, OSError, EOFError):
            refused += 1
    message, payload = request("sigmoid", {"input": Tensor(bytes(4 << 20))})
    for connection in held:
        stream = connection.open(EVALUATE)
        # It waits for memory, or has it and does not go on.
        connection.send(header(MESSAGE, stream, len(message), len(payload), END_STREAM) + message)
    print(f"{len(held)} {refused}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()

"""Clients that follow GOAWAY, and clients that only connect: what must not fail while a daemon is exchanged."""

import os
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
from wire import EVALUATE, GOAWAY, MESSAGE, STATUS, Connection, Tensor, frame, parse, request  # noqa: E402

PATH = "/run/lossd/lossd.sock"
ADDRESS = f"unix:{PATH}"


class Follower:
    """Calls without a pause, one after the other; a call that GOAWAY says was not begun goes to the next daemon."""

    def __init__(self, address=ADDRESS):
        self.address, self.connection, self.last = address, None, None
        self.calls, self.moves = 0, 0

    def call(self):
        while True:
            if self.connection is None:
                self.connection, self.last = Connection(self.address), None
            connection = self.connection
            try:
                stream = connection.open(EVALUATE)
                connection.send(frame(
                    MESSAGE, stream, *request("sigmoid", {"input": Tensor([0.0])}, None, ()), 1))
                answered = self.wait(stream)
            except (BrokenPipeError, ConnectionResetError, EOFError) as failure:
                # Good only where the daemon said before that it goes, and that it did not begin this call.
                self.read_rest()
                stream = connection.next_stream - 2
                if self.last is None or stream <= self.last:
                    raise AssertionError(f"stream {stream} is lost, last {self.last}") from failure
                answered = False
            if self.last is not None:
                connection.close()
                self.connection = None
                self.moves += 1
            if answered:
                self.calls += 1
                return

    def read_rest(self):
        """What the daemon said last may still lie there unread."""
        try:
            while True:
                kind, _, _, message, _ = self.connection.receive()
                if kind == GOAWAY:
                    self.last = parse(message).get(1, [0])[0]
        except (ConnectionResetError, EOFError):
            pass

    def wait(self, stream):
        while True:
            kind, of, _, message, _ = self.connection.receive()
            if kind == GOAWAY:
                self.last = parse(message).get(1, [0])[0]
                if stream > self.last:
                    return False
            elif of == stream and kind == MESSAGE:
                return True
            elif of == stream and kind == STATUS:
                raise AssertionError(f"stream {stream}, last {self.last}: {parse(message)}")

    def close(self):
        if self.connection:
            self.connection.close()


class Load:
    """Some followers at work in threads, until `end`; what failed is in `failures`."""

    def __init__(self, count=4):
        self.ended, self.failures = threading.Event(), []
        self.followers = [Follower() for _ in range(count)]
        self.threads = [threading.Thread(target=self.work, args=(one,)) for one in self.followers]

    def work(self, follower):
        try:
            while not self.ended.is_set():
                follower.call()
        except Exception as failure:  # whatever it is, the test says it
            self.failures.append(repr(failure))
        follower.close()

    @property
    def calls(self):
        return sum(follower.calls for follower in self.followers)

    @property
    def moves(self):
        return sum(follower.moves for follower in self.followers)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()


class Connecting:
    """Connects every 5 ms and closes again, until `end`; `refused` has what the kernel said."""

    def __init__(self, path=PATH):
        self.path, self.refused, self.connections = path, [], 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.work)

    def work(self):
        while not self.ended.is_set():
            with socket.socket(socket.AF_UNIX) as one:
                try:
                    one.connect(self.path)
                    self.connections += 1
                except OSError as failure:
                    self.refused.append(repr(failure))
            time.sleep(0.005)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

"""Talks with a daemon on many connections at once; which says what next, a seed decides."""

import random
import signal
import socket
import struct
import time

from conversations import requests
from conversations.peer import INTERNAL, INVALID_ARGUMENT, Peer, Violation
from wire import (
    CANCEL, CREDIT, DAEMON_STATUS, END_STREAM, EVALUATE, FUNCTIONS, GOAWAY, HELLO, MESSAGE, OPEN, PING, PREFACE, REGION,
    RELEASE, STATUS, STREAM, Response, Tensor, block, frame, hello, number, open_call, parse, request)

PLUGINS = "/lossd.v1.PluginHost/"
# Deeds of the wicked plugin that end quickly, and what they may end as is not looked at.
DEEDS = [
    "none", "calls", "half_written", "unwritten", "segv_null", "abrt", "exits", "exits_at_once", "hang", "leak",
    "lie_type", "lie_rank", "lie_huge", "lie_big", "lie_many", "lie_cost", "lie_workspace", "lie_present", "nan",
    "past_end", "redirects", "reshapes", "code", "text_no_end", "text_bytes", "floods_log", "slow"]
ANY = set(range(1, 17))
SETTINGS = dict(
    workers=2, loops=2, limits__streams=16, limits__stream_credit=4, limits__connection_bytes="16MiB",
    limits__total_bytes="48MiB", limits__queued_bytes="256KiB", limits__message_bytes="128KiB",
    limits__payload_bytes="4MiB", limits__hello_timeout="1s", limits__frame_timeout="1s", limits__starve_timeout="1s",
    limits__callback_timeout="500ms", limits__drain_timeout="3s")


class Chaos:
    """One run. `functions` names plugins' functions that the daemon has besides its own: `hinge`, `wicked`."""

    peers_max = 10
    outbox_max = 1 << 22

    def __init__(self, daemon, seed, functions=(), admin=None, files=()):
        self.daemon, self.seed, self.functions, self.admin, self.files = daemon, seed, functions, admin, files
        self.source = random.Random(seed)
        self.known = self.learn()
        self.peers, self.made, self.steps = [], 0, 0
        self.signals = 0
        actions = {
            self.meet: 6, self.evaluate: 30, self.evaluate_wrongly: 20, self.dangle: 6, self.begin_stream: 10,
            self.go_on: 40, self.cancel: 8, self.ask: 6, self.ping: 3, self.cut: 3, self.leave: 3, self.spoil: 2,
            self.hold: 4, self.late: 4, self.reload: 1, self.pause: 1}
        if "wicked" in functions:
            actions[self.be_wicked] = 6
        if admin:
            actions[self.administer] = 2
        self.actions, self.weights = list(actions), list(actions.values())

    def learn(self):
        """Good requests and their answers: the same bits whoever computes them."""
        known = []
        with self.daemon.connect() as connection:
            for _ in range(16):
                call = requests.good(self.source)
                answer = connection.evaluate(*call)
                known.append((call, {name: tensor.data for name, tensor in answer.outputs.items()}))
            if "hinge" in self.functions:
                hinge = ("hinge", {"input": Tensor([0.5, 2.0, -1.0]), "target": Tensor([1.0, 1.0, 1.0])}, {},
                         ["loss", "grad.input"])
                answer = connection.evaluate(*hinge)
                known += [(hinge, {name: tensor.data for name, tensor in answer.outputs.items()})] * 3
        return known

    # ---- The run

    def run(self, seconds):
        """Talks for so long, then lets everything come to its end."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.step()
        self.settle()

    def step(self):
        self.steps += 1
        peer = self.source.choice(self.peers) if self.peers else None
        action = self.source.choices(self.actions, self.weights)[0]
        if peer is None or not peer.is_open:
            action = self.meet
        elif peer.rest:
            # In the middle of a frame nothing else can be said.
            action = self.source.choice([self.finish_frame, self.finish_frame, self.leave])
        elif len(peer.outbox) > Chaos.outbox_max:
            action = self.hold
        action(peer)
        for other in self.peers:
            other.pump()
        self.peers = [other for other in self.peers if other.is_open]

    def settle(self):
        """Every call that can end does; then all connections go."""
        for peer in self.peers:
            peer.listens = True
            if peer.rest:
                peer.say_rest()
            for stream in peer.open_calls:
                call = peer.calls[stream]
                if self.source.random() < 0.5:
                    peer.say(frame(CANCEL, stream))
                else:
                    if call.limited:
                        peer.grant(stream, 1000)
                    if not call.has_ended:
                        call.has_ended, call.is_wrong = True, True
                        peer.say(frame(MESSAGE, stream, flags=END_STREAM))
        end = time.monotonic() + 30
        while any(peer.is_open and (peer.open_calls or peer.outbox) and not peer.is_bad for peer in self.peers):
            for peer in self.peers:
                peer.pump()
            if time.monotonic() > end:
                left = {peer.name: [(stream, peer.calls[stream].method) for stream in peer.open_calls]
                        for peer in self.peers if peer.is_open and not peer.is_bad}
                raise Violation(f"calls that do not end: {left}")
            time.sleep(0.001)
        for peer in self.peers:
            peer.close()
        self.peers = []

    # ---- What may be done; `peer` is open and between two frames

    def meet(self, _):
        """A connection more, of one kind or another."""
        if len(self.peers) >= Chaos.peers_max:
            self.source.choice(self.peers).close()
            return
        self.made += 1
        name = f"peer {self.made}"
        kind = self.source.random()
        if kind < 0.1:
            peer = Peer(self.daemon.unix, name, greet=False)
            peer.is_bad = True
            start = self.source.choice([
                b"", b"LOSSD/1", b"GET / HTTP/1.1\r\n\r\n", PREFACE, PREFACE + frame(PING, 0, b"x"), PREFACE + hello()[:9],
                self.source.randbytes(40)])
            peer.say(start)
        elif kind < 0.3:
            peer = Peer(self.daemon.unix, name, features=("shm", "more"), max_payload_bytes=1 << 20)
        else:
            peer = Peer(self.daemon.unix, name)
        self.peers.append(peer)

    def expect(self, call, expected, function):
        call.expected = expected
        if function in self.functions:
            # It may be exchanged, or be restarted.
            call.codes |= {5, 14}

    def timeout(self):
        return self.source.choice([0, 0, 0, 0, 1, 100, 10_000, 10_000_000, (1 << 64) - 1])

    def evaluate(self, peer):
        (function, *rest), expected = self.source.choice(self.known)
        stream = peer.open(EVALUATE, self.timeout(), self.source.choice([0, 0, 1, 5]), self.source.choice([0, 0, 1, 7]))
        self.expect(peer.calls[stream], expected, function)
        peer.calls[stream].has_ended = True
        peer.say(frame(MESSAGE, stream, *request(function, *rest), END_STREAM))

    def evaluate_wrongly(self, peer):
        stream = peer.open(self.source.choice([EVALUATE, EVALUATE, STREAM]), self.timeout(), self.source.choice([0, 1]))
        call = peer.calls[stream]
        call.is_wrong = True
        for _ in range(1 if call.method == EVALUATE else self.source.randrange(1, 4)):
            message, payload = requests.wrong(self.source)
            peer.say(frame(MESSAGE, stream, message, payload))
        call.has_ended = True
        peer.say(frame(MESSAGE, stream, flags=END_STREAM))

    def dangle(self, peer):
        """A call whose end does not come, not yet at least."""
        (function, *rest), expected = self.source.choice(self.known)
        stream = peer.open(EVALUATE, self.timeout())
        self.expect(peer.calls[stream], expected, function)
        if self.source.random() < 0.7:
            peer.calls[stream].is_wrong = True  # A second message is no good request.
            peer.say(frame(MESSAGE, stream, *request(function, *rest)))

    def begin_stream(self, peer):
        call, expected = self.source.choice(self.known)
        stream = peer.open(STREAM, self.timeout(), self.source.choice([0, 1, 2, 50]))
        self.expect(peer.calls[stream], expected, call[0])
        peer.calls[stream].batch = call
        peer.say(frame(MESSAGE, stream, *request(*call, id=1)))

    def go_on(self, peer):
        """Something more on a stream that is open, as far as this side knows."""
        streams = peer.open_calls
        if not streams:
            return self.evaluate(peer)
        stream = self.source.choice(streams)
        call = peer.calls[stream]
        kind = self.source.random()
        batch = getattr(call, "batch", None)
        if call.method == STREAM and not call.has_ended and kind < 0.6:
            if batch and not call.is_wrong:
                peer.say(frame(MESSAGE, stream, *request("", batch[1], id=2)))
            else:
                peer.say(frame(MESSAGE, stream, *requests.wrong(self.source)))
        elif kind < 0.8 and call.limited:
            peer.grant(stream, self.source.choice([1, 1, 3, 1000]))
        elif not call.has_ended:
            call.has_ended = True
            if call.method != STREAM:
                call.is_wrong = True
            peer.say(frame(MESSAGE, stream, flags=END_STREAM))

    def cancel(self, peer):
        streams = peer.open_calls
        if streams:
            peer.say(frame(CANCEL, self.source.choice(streams)))

    def ask(self, peer):
        """What is no evaluation."""
        method = self.source.choice([
            DAEMON_STATUS, FUNCTIONS, FUNCTIONS, "/lossd.v1.Evaluator/Nothing", "/lossd.v1.Other/Evaluate", "", "/",
            PLUGINS + "ListPlugins", "x" * 300])
        stream = peer.open(method, self.timeout())
        call = peer.calls[stream]
        call.has_ended, call.is_wrong = True, True
        message = self.source.choice([b"", b"", block(1, "sigmoid"), self.source.randbytes(5)])
        peer.say(frame(MESSAGE, stream, message, flags=END_STREAM))

    def ping(self, peer):
        peer.ping(self.source.randbytes(self.source.choice([0, 1, 8, 64])))

    def late(self, peer):
        """Frames for calls that are over, or never were."""
        if not peer.calls:
            return
        stream = self.source.choice(list(peer.calls))
        call = peer.calls[stream]
        kind = self.source.randrange(3)
        if kind == 0:
            peer.grant(stream, 1)
        elif kind == 1:
            peer.say(frame(CANCEL, stream))
        elif call.is_done or call.has_ended:
            call.is_wrong = True
            peer.say(frame(MESSAGE, stream, b"", b"late" * self.source.choice([0, 1, 500])))

    def cut(self, peer):
        """A part of a frame, its rest later or never."""
        (function, *rest), expected = self.source.choice(self.known)
        stream = peer.open(EVALUATE)
        call = peer.calls[stream]
        self.expect(call, expected, function)
        call.has_ended = True
        data = frame(MESSAGE, stream, *request(function, *rest), END_STREAM)
        # It may take longer than a frame may.
        peer.may_end = True
        peer.say_part(data, self.source.randrange(len(data)))

    def finish_frame(self, peer):
        if self.source.random() < 0.5 and len(peer.rest) > 1:
            peer.say_part(peer.rest, self.source.randrange(1, len(peer.rest)))
        else:
            peer.say_rest()

    def leave(self, peer):
        kind = self.source.randrange(4)
        if kind == 0:
            peer.close()
        elif kind == 1:
            # With bytes of the daemon unread, which resets the connection.
            peer.listens = False
            peer.close()
        elif kind == 2:
            peer.is_bad = True
            try:
                peer.socket.shutdown(socket.SHUT_WR)
            except OSError:
                peer.close()
            peer.outbox.clear()
        elif not peer.rest:
            peer.may_end = True
            peer.say(frame(GOAWAY, 0, number(1, 0)))

    def spoil(self, peer):
        """What breaks the protocol."""
        peer.is_bad = True
        stream = peer.last_stream
        (function, *rest), _ = self.source.choice(self.known)
        good = frame(MESSAGE, stream, *request(function, *rest), END_STREAM)
        kind = self.source.randrange(7)
        if kind == 0:
            peer.say(requests.mutated(self.source, open_call(stream + 1, EVALUATE) + good[:200]))
        elif kind == 1:
            peer.say(self.source.randbytes(self.source.choice([16, 17, 100])))
        elif kind == 2:
            peer.say(struct.pack(
                "<IIIBBH", self.source.choice([0, 5, 1 << 31]), self.source.choice([0, 70, (1 << 32) - 1]),
                self.source.choice([0, stream, stream + 9]), self.source.randrange(16), self.source.randrange(5),
                self.source.choice([0, 0, 1])) + self.source.randbytes(100))
        elif kind == 3:
            peer.say(self.source.choice([
                hello(), frame(STATUS, stream), frame(OPEN, stream), frame(CREDIT, stream, number(1, 0)),
                frame(PING, 0, bytes(65)), frame(CANCEL, stream + 5), frame(REGION, 0, number(1, 1) + number(2, 4096)),
                frame(RELEASE, 0, number(1, 1)), frame(HELLO, 0, b"\xff" * 9), frame(GOAWAY, 0, b"\x0a")]))
        elif kind == 4:
            # A descriptor along with a frame.
            if peer.outbox:
                return
            try:
                with open("/dev/null", "rb") as file:
                    socket.send_fds(peer.socket, [frame(PING, 0, b"x")], [file.fileno()] * self.source.choice([1, 3, 250]))
            except OSError:
                pass
        elif kind == 5:
            peer.say(frame(MESSAGE, stream, b"\xff" * 200_000, b""))
        else:
            peer.say(frame(MESSAGE, stream + 3, b"", b"x" * 64))

    def hold(self, peer):
        """Stops listening, or listens again."""
        peer.listens = not peer.listens if len(peer.outbox) < Chaos.outbox_max else True

    def pause(self, _):
        time.sleep(self.source.choice([0.001, 0.01, 0.05]))

    def reload(self, _):
        self.signals += 1
        if self.signals < 200:
            self.daemon_process.send_signal(signal.SIGHUP)

    def be_wicked(self, peer):
        deed = self.source.choice(DEEDS)
        method = self.source.choice([EVALUATE, EVALUATE, STREAM])
        stream = peer.open(method, self.source.choice([1000, 100_000, 300_000]))
        call = peer.calls[stream]
        call.codes, call.is_wrong = ANY, True
        data = Tensor([1.0] * self.source.choice([0, 4, 4, 100, 20_000]))
        attributes = {"mode": deed}
        if self.source.random() < 0.3:
            attributes["where"] = self.source.choice(["plan", "run", "finish", "merge", "both"])
        call.has_ended = method == EVALUATE
        peer.say(frame(
            MESSAGE, stream, *request("wicked", {"input": data}, attributes, ["output", "loss"]),
            END_STREAM if method == EVALUATE else 0))

    def administer(self, _):
        """Plugins are listed, loaded, reloaded and unloaded, on a connection of its own that is closed at once."""
        peer = Peer(self.admin, f"administrator {self.steps}")
        peer.is_bad = True
        file = self.source.choice(list(self.files) + ["none.so", "../x.so", ""])
        name = self.source.choice(["ListPlugins", "ListPlugins", "LoadPlugin", "ReloadPlugin", "ReloadPlugin"])
        stream = peer.open(PLUGINS + name)
        peer.calls[stream].has_ended = True
        peer.say(frame(MESSAGE, stream, block(1, file) if file else b"", flags=END_STREAM))
        peer.pump()
        self.peers.append(peer)

    @property
    def daemon_process(self):
        return getattr(self.daemon, "process", None) or self.daemon.daemon.process


# ---- Afterwards


def is_calm(daemon, seconds=20):
    """Waits until no call is left and no memory is held; what was left when it did not come to that, or None."""
    end = time.monotonic() + seconds
    while True:
        fields = daemon.status()
        calls, held, connections = (fields.get(field, [0])[0] for field in (6, 7, 4))
        # The status call and its connection are there themselves.
        if calls <= 1 and held == 0 and connections <= 1:
            return None
        if time.monotonic() > end:
            return f"{calls - 1} calls, {held} bytes and {connections - 1} connections are left"
        time.sleep(0.02)


def drain(daemon, seed):
    """SIGTERM while calls are under way; returns the exit status and how long it took, seconds."""
    source = random.Random(seed)
    chaos = Chaos(daemon, seed)
    for _ in range(6):
        chaos.meet(None)
    for _ in range(60):
        peer = source.choice(chaos.peers)
        source.choice([chaos.evaluate, chaos.begin_stream, chaos.go_on, chaos.dangle])(peer)
        peer.pump()
    begin = time.monotonic()
    process = chaos.daemon_process
    process.send_signal(signal.SIGTERM)
    for peer in chaos.peers:
        # Goodbyes are in order now; so is that connections end after them.
        peer.may_end = True
    while process.poll() is None and time.monotonic() < begin + 30:
        for peer in chaos.peers:
            peer.pump()
        time.sleep(0.001)
    for peer in chaos.peers:
        peer.close()
    return process.poll(), time.monotonic() - begin

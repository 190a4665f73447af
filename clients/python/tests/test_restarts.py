"""Both clients while daemons come and go."""

import os
import signal
import struct
import subprocess
import threading
import time

import numpy as np
import pytest

import lossd
import lossd.testing
from fakes import HI, answer, goaway, listed, serving, status, summary, tensor
from wire import CREDIT, END_STREAM, frame, number, parse

X = np.array([0, 1, -1], np.float32)


def names(message):
    return [parse(item)[1][0].decode() for item in parse(message).get(2, [])]


def reply(fake, stream, batch):
    fake.send(answer(number(1, batch) + tensor("loss"), stream=stream, flags=0)
              + frame(CREDIT, stream, number(1, 1)))


def test_calls_that_never_began_go_to_the_next_daemon(both):
    def first(fake):
        fake.send(HI)
        for _ in range(3):
            fake.request()
        fake.send(answer(stream=1) + goaway(2) + answer(stream=2))
        fake.until_closed()

    def second(fake):
        fake.send(HI)
        fake.request()
        fake.send(answer(stream=1))
        fake.until_closed()

    with serving(first, second) as address:
        outcomes = both.evaluate_many(address, 3, "sigmoid", {"input": X})
    assert [outcome["output"][0] for outcome in outcomes] == [0.5] * 3


def test_what_the_daemon_was_at_when_it_vanished_is_unavailable(both):
    def serve(fake):
        fake.send(HI)
        fake.request()
        fake.send(goaway(1))

    with serving(serve) as address, pytest.raises(lossd.Unavailable, match="closed the connection"):
        both.evaluate(address, "sigmoid", {"input": X})


def test_a_daemon_that_keeps_shutting_down_is_not_waited_for_forever(both, monkeypatch):
    monkeypatch.setattr(lossd._clock, "CONNECT_TIMEOUT", 0.5)

    def refuse(fake):
        fake.frame()
        fake.send(HI + goaway(0))
        fake.until_closed()

    with serving(*[refuse] * 20) as address, pytest.raises(lossd.Unavailable, match="keeps shutting down"):
        both.evaluate(address, "sigmoid", {"input": X})


W = np.array([1, 2, 3], np.float32)
W2 = np.array([4, 5, 6], np.float32)
BATCHES = [{"input": X, "weight": W}, {"input": X, "weight": W2}, {"input": X}, {"input": X}, {"input": X}]


def test_a_drained_stream_goes_on_from_the_batch_after_with_the_inputs_that_stay(both):
    seen, before = [], []

    def first(fake):
        fake.send(HI)
        fake.request()
        fake.send(listed("binary_cross_entropy", "weight"))
        for batch in range(2):
            fake.request(streams=(2,))
            reply(fake, 2, batch)
        fake.request(streams=(2,))
        fake.send(goaway(2) + summary(2, 10, 4, 2, False) + status(14, "draining", 2))
        fake.until_closed()

    def second(fake):
        fake.send(HI)
        head = fake.request()
        seen.append((parse(head[3])[1][0], names(head[3]), struct.unpack("<3f", head[4])))
        before.extend(parse(part) for part in parse(head[3])[6])
        fake.send(frame(CREDIT, 1, number(1, 1)))
        for batch in range(2, 5):
            item = fake.request()
            seen.append((parse(item[3])[5][0], item[2]))
            reply(fake, 1, batch)
        seen.append(fake.request()[2:])
        fake.send(summary(5, 15, 6, 1, True))
        fake.until_closed()

    with serving(first, second) as address:
        results, total = both.stream(address, "binary_cross_entropy", BATCHES)
    assert len(results) == 5 and (total.batches, total.rows) == (5, 15)
    assert total.loss == 2.5 and total.state == {"loss_sum": 15, "weight_sum": 6}
    assert seen == [(b"binary_cross_entropy", ["weight"], (4, 5, 6)), (2, 0), (3, 0), (4, 0), (END_STREAM, b"", b"")]
    assert len(before) == 1 and (before[0][1], before[0][2]) == ([2], [6])  # what the first daemon said
    state = {parse(entry)[1][0]: parse(entry)[2][0] for entry in before[0][4]}
    assert state == {b"loss_sum": 10, b"weight_sum": 4}


def test_a_weight_that_an_unanswered_batch_brought_does_not_count_for_the_one_before(both):
    seen = []

    def first(fake):
        fake.send(HI)
        fake.request()
        fake.send(listed("binary_cross_entropy", "weight"))
        fake.request(streams=(2,))
        reply(fake, 2, 0)
        fake.request(streams=(2,), count=2)  # 1 and 2 are under way, 2 has another weight
        fake.send(goaway(2) + summary(1, 10, 4, 2, False) + status(14, "draining", 2))
        fake.until_closed()

    def second(fake):
        fake.send(HI)
        seen.append(struct.unpack("<3f", fake.request()[4]))
        fake.send(frame(CREDIT, 1, number(1, 1)))
        for batch in range(1, 3):
            seen.append(names(fake.request()[3]))
            reply(fake, 1, batch)
        fake.request()  # the half-close
        fake.send(summary(3, 15, 1, 1, True))
        fake.until_closed()

    batches = [{"input": X, "weight": W}, {"input": X}, {"input": X, "weight": W2}]
    with serving(first, second) as address:
        _, total = both.stream(address, "binary_cross_entropy", batches, attributes={"reduction": "sum"})
    assert total.batches == 3 and total.loss == 15
    assert seen == [(1, 2, 3), ["input"], ["input", "weight"]]


@pytest.mark.parametrize("reduction", ["mean", None])
def test_the_last_daemon_says_what_all_came_to_and_one_that_says_less_is_refused(both, reduction):
    def first(fake):
        fake.send(HI)
        fake.request()
        fake.send(listed("strange", reduction=reduction))
        fake.request(streams=(2,))
        reply(fake, 2, 0)
        fake.send(goaway(2) + summary(1, 10, 4, 2, False) + status(14, "draining", 2))
        fake.until_closed()

    def second(fake):
        fake.send(HI)
        assert parse(fake.request()[3])[6]  # what the first one said
        fake.send(frame(CREDIT, 1, number(1, 1)))
        assert fake.request()[2] == 0  # the other batch
        reply(fake, 1, 1)
        assert fake.request()[2] == END_STREAM
        fake.send(summary(said, 15, 3, 1, True))
        fake.until_closed()

    said = 2
    with serving(first, second) as address:
        results, total = both.stream(address, "strange", [{"input": X}] * 2)
    assert len(results) == 2 and (total.batches, total.rows) == (2, 6)
    assert total.values == {"loss": 5} and total.state == {"loss_sum": 15, "weight_sum": 3}
    said = 1  # as a daemon that does not know of Summaries to go on from
    with serving(first, second) as address, pytest.raises(lossd.Internal, match="of 1 batches, 2 have been answered"):
        both.stream(address, "strange", [{"input": X}] * 2)


def test_a_stream_that_never_began_goes_to_the_next_daemon_even_without_a_batch(both):
    def first(fake):
        fake.send(HI)
        fake.request()
        fake.send(listed("sigmoid"))
        fake.request(streams=(2,))
        fake.send(goaway(1))
        fake.until_closed()

    def second(fake):
        fake.send(HI)
        assert parse(fake.request()[3])[1] == [b"sigmoid"]
        assert fake.request()[2:] == (END_STREAM, b"", b"")
        fake.send(summary(0, 0, 1, 1, True))
        fake.until_closed()

    with serving(first, second) as address:
        assert both.stream(address, "sigmoid", [])[1].batches == 0


def test_a_stream_that_is_finished_only_after_its_daemon_went_begins_anew():
    """The next daemon is told the function's name before the half-close."""
    has_gone = threading.Event()

    def first(fake):
        fake.send(HI)
        fake.request()
        fake.send(listed("sigmoid", "weight"))
        fake.send(goaway(1))
        fake.until_closed()
        has_gone.set()

    def second(fake):
        fake.send(HI)
        assert parse(fake.request()[3])[1] == [b"sigmoid"]
        assert fake.request()[2:] == (END_STREAM, b"", b"")
        fake.send(summary(0, 0, 1, 1, True))
        fake.until_closed()

    with serving(first, second) as address, lossd.connect(address) as client:
        stream = client.stream("sigmoid")
        taken = threading.Thread(target=lambda: list(stream))
        taken.start()
        assert has_gone.wait(20)
        stream.finish()
        taken.join(20)
        assert not taken.is_alive() and stream.summary.batches == 0


def start(address):
    process = subprocess.Popen(
        [lossd.testing.binary(), "--listen", address, "--set", "limits.drain_timeout=1s"],
        stderr=subprocess.DEVNULL, env={**os.environ, "LOSSD_KERNELS": "reference"})
    while not os.path.exists(address[5:]):
        time.sleep(0.01)
    return process


def test_a_data_set_under_two_restarts_has_the_sums_of_one_without(both, tmp_path):
    address = f"unix:{tmp_path}/lossd.sock"
    count, size = 12_000, 3
    source = np.random.default_rng(3)
    x, y = source.normal(size=(count * size, 4)), source.integers(0, 4, count * size)
    weight = np.array([1, 2, 0.5, 3])
    sent = []
    is_restarting = threading.Event()

    def batches():
        yield {"weight": weight}
        for first in range(0, len(x), size):
            if is_restarting.is_set():
                time.sleep(0.005)  # so that the stream is not over before the daemon is
            sent.append(first)
            yield {"input": x[first:first + size], "target": y[first:first + size]}

    daemons = [start(address)]
    try:
        time.sleep(0.2)
        _, whole = both.stream(address, "cross_entropy", batches())
        outcome = {}
        sent.clear()
        thread = threading.Thread(
            target=lambda: outcome.update(zip(("results", "summary"), both.stream(
                address, "cross_entropy", batches()))))
        thread.start()
        for share in (0.25, 0.5):
            while len(sent) < share * count:
                time.sleep(0.001)
            is_restarting.set()
            daemons[-1].send_signal(signal.SIGTERM)
            while os.path.exists(address[5:]):
                time.sleep(0.005)
            daemons.append(start(address))
            assert daemons[-2].wait(20) == 0
            is_restarting.clear()
            assert thread.is_alive(), "the stream was over before the restart"
        thread.join(120)
        total = outcome["summary"]
        assert len(outcome["results"]) == count and (total.batches, total.rows) == (count, count * size)
        assert total.loss == pytest.approx(whole.loss, rel=1e-12)
        for name, value in whole.state.items():
            assert total.state[name] == pytest.approx(value, rel=1e-12)
    finally:
        for daemon in daemons:
            daemon.kill()
            daemon.wait()


def test_one_thread_that_sends_and_takes_in_turns_lives_through_a_drain():
    def first(fake):
        fake.send(HI)
        fake.request()
        fake.send(listed("sigmoid"))
        fake.request(streams=(2,))
        reply(fake, 2, 0)
        fake.send(goaway(2) + summary(1, 0, 1, 2, False) + status(14, "draining", 2))
        fake.until_closed()

    def second(fake):
        fake.send(HI)
        fake.request()  # the function, and what the first one said
        fake.send(frame(CREDIT, 1, number(1, 1)))
        for batch in range(1, 3):
            fake.request()
            reply(fake, 1, batch)
        fake.request()
        fake.send(summary(3, 0, 1, 1, True))
        fake.until_closed()

    with serving(first, second) as address, lossd.connect(address) as client:
        stream = client.stream("sigmoid")
        stream.send({"input": X}, 0)
        time.sleep(0.2)  # the old call has ended before the next batch is sent
        stream.send({"input": X}, 1)
        stream.send({"input": X}, 2)
        stream.finish()
        assert len(list(stream)) == 3 and stream.summary.batches == 3

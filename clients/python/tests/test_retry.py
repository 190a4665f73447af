"""`retry`: evaluations and streams live through crashes and restarts of the daemon."""

import asyncio
import itertools
import signal
import subprocess
import threading
import time

import numpy as np
import pytest

import lossd
import lossd.testing
from fakes import HI, answer, goaway, listed, serving, status, summary, tensor
from wire import END_STREAM, number, parse

X = np.array([0, 1, -1], np.float32)



class Threads:
    @staticmethod
    def evaluate(address, retry, *arguments, **options):
        with lossd.connect(address, retry) as client:
            return client.evaluate(*arguments, **options)

    @staticmethod
    def stream(address, retry, *arguments, on_result=lambda: None, **options):
        with lossd.connect(address, retry) as client:
            results = []
            stream = client.stream(*arguments, **options)
            for result in stream:
                results.append(result)
                on_result()
            return results, stream.summary


class Asyncio:
    @staticmethod
    def evaluate(address, retry, *arguments, **options):
        async def main():
            async with lossd.connect_async(address, retry) as client:
                return await client.evaluate(*arguments, **options)

        return asyncio.run(main())

    @staticmethod
    def stream(address, retry, *arguments, on_result=lambda: None, **options):
        async def main():
            async with lossd.connect_async(address, retry) as client:
                results = []
                stream = client.stream(*arguments, **options)
                async for result in stream:
                    results.append(result)
                    on_result()
                return results, stream.summary

        return asyncio.run(main())


@pytest.fixture(params=[Threads, Asyncio], ids=["threads", "asyncio"])
def kind(request):
    return request.param


class Daemon:
    """At one address, killed and started again."""

    def __init__(self, folder):
        self.address = f"unix:{folder}/lossd.sock"
        self.process = None
        self.starts = 0

    def start(self):
        self.starts += 1
        self.process = subprocess.Popen(
            [lossd.testing.binary(), "--listen", self.address], stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

    def kill(self, how=signal.SIGKILL):
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(20)

    def ready(self):
        with lossd.connect(self.address, 20) as client:
            client.sigmoid(X)


@pytest.fixture
def daemon(tmp_path):
    daemon = Daemon(tmp_path)
    daemon.start()
    daemon.ready()
    yield daemon
    daemon.kill()


def crash(fake):
    fake.send(HI)
    fake.request()


def refuse(fake):
    fake.send(HI)
    fake.request()
    fake.send(status(14, "the plugin's process is gone"))
    fake.request()  # on the same connection
    fake.send(status(14, "and again", 2))


def drain(fake):
    fake.frame()
    fake.send(HI + goaway(0))
    fake.until_closed()


def right(fake):
    fake.send(HI)
    fake.request()
    fake.send(answer())
    fake.until_closed()


def test_an_evaluation_is_repeated_until_it_is_answered(kind):
    with serving(crash, drain, lambda fake: fake.frame(), refuse, crash, right) as address:
        assert kind.evaluate(address, 20, "sigmoid", {"input": X})["output"][0] == 0.5


def test_without_retry_a_crash_is_unavailable(kind):
    with serving(crash, right) as address, pytest.raises(lossd.Unavailable):
        kind.evaluate(address, None, "sigmoid", {"input": X})
    with serving(crash, right) as address, pytest.raises(lossd.Unavailable):
        kind.evaluate(address, 0, "sigmoid", {"input": X})


def test_other_errors_are_not_repeated(kind):
    def wrong(fake):
        fake.send(HI)
        fake.request()
        fake.send(status(3, "input is wrong"))
        fake.until_closed()

    with serving(wrong, right) as address, pytest.raises(lossd.InvalidArgument, match="input is wrong"):
        kind.evaluate(address, 20, "sigmoid", {"input": X})


def test_when_the_time_is_up_the_last_error_says_so(kind, tmp_path):
    began = time.monotonic()
    with pytest.raises(lossd.Unavailable, match=r"tried again for 0.6 s"):
        kind.evaluate(f"unix:{tmp_path}/none", 0.6, "sigmoid", {"input": X})
    with pytest.raises(lossd.Unavailable, match=r"tried again for 0.6 s"):
        kind.stream(f"unix:{tmp_path}/none", 0.6, "sigmoid", [{"input": X}])
    assert 1.1 < time.monotonic() - began < 10


def test_the_timeout_of_a_call_holds_all_the_same(kind, tmp_path):
    began = time.monotonic()
    with pytest.raises((lossd.DeadlineExceeded, lossd.Unavailable)):
        kind.evaluate(f"unix:{tmp_path}/none", float("inf"), "sigmoid", {"input": X}, timeout=0.5)
    assert 0.4 < time.monotonic() - began < 5


def test_a_closed_client_does_not_connect_again():
    def serve(fake):
        fake.send(HI)
        fake.request()
        fake.until_closed()

    with serving(serve, right) as address:
        client = lossd.connect(address, 20)
        pending = client.submit("sigmoid", {"input": X})
        client.close()
        with pytest.raises(lossd.Unavailable, match="the client was closed"):
            pending.result()


def test_evaluations_go_on_while_the_daemon_is_killed_again_and_again(kind, daemon):
    is_over = threading.Event()

    def killer():
        while not is_over.wait(0.1):
            daemon.kill()
            daemon.start()

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        until = time.monotonic() + 2
        for step in itertools.count():
            big = np.full(200_000 if step % 3 else 3, step % 7, np.float32)  # by shared memory, and without
            output = kind.evaluate(daemon.address, 30, "sigmoid", {"input": big})["output"]
            np.testing.assert_allclose(output, 1 / (1 + np.exp(-big)), rtol=1e-5)
            if time.monotonic() > until and daemon.starts > 3:
                break
    finally:
        is_over.set()
        thread.join()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "shut down"])
def test_a_stream_counts_each_batch_once_however_its_daemons_end(kind, daemon, how):
    rng = np.random.default_rng(5)
    batches = [{"input": rng.normal(size=(50, 10)), "target": rng.integers(0, 10, 50)} for _ in range(120)]
    batches[0]["weight"] = rng.random(10) + 0.1
    batches[70]["weight"] = rng.random(10) + 0.1  # stays from here on
    with lossd.connect(daemon.address) as client:
        whole = client.stream("cross_entropy", batches)
        expected = [float(item["loss"]) for item in whole]
    taken = itertools.count(1)

    def on_result():
        if next(taken) % 30 == 0:
            daemon.kill(how)
            daemon.start()

    results, total = kind.stream(daemon.address, 30, "cross_entropy", batches, on_result=on_result)
    assert daemon.starts == 5
    np.testing.assert_allclose([float(item["loss"]) for item in results], expected, rtol=1e-12)
    assert (total.batches, total.rows) == (120, 6000)
    assert total.loss == pytest.approx(whole.summary.loss, rel=1e-12)
    for name, value in whole.summary.state.items():
        assert total.state[name] == pytest.approx(value, rel=1e-12)


def test_a_batch_whose_sums_did_not_come_is_evaluated_again_and_given_once(kind):
    def one(fake, stream, last=True):
        fake.send(answer(number(1, 0) + tensor("loss"), stream=stream, flags=0))
        if last:
            fake.send(summary(1, 3, 1, stream, True))

    def first(fake):
        fake.send(HI)
        fake.request()
        fake.send(listed("binary_cross_entropy", "weight"))
        fake.request(streams=(2,))
        one(fake, 2)
        fake.request(streams=(3,))
        one(fake, 3, last=False)  # and then it crashes

    seen, merged = [], []

    def second(fake):
        fake.send(HI)
        for stream in (1, 2):
            item = fake.request()
            seen.append([parse(part)[1][0] for part in parse(item[3])[2]])
            one(fake, stream)
        parts = fake.request()
        merged.extend(parse(part)[1][0] for part in parse(parts[3])[6])
        assert parts[2] == END_STREAM and parse(parts[3])[1] == [b"binary_cross_entropy"]
        fake.send(summary(3, 9, 3, 3, True))
        fake.until_closed()

    weight = np.array([1, 2, 3], np.float32)
    batches = [{"input": X, "weight": weight}, {"input": X}, {"input": X}]
    with serving(first, second) as address:
        results, total = kind.stream(address, 20, "binary_cross_entropy", batches, window=2)
    assert len(results) == 3 and (total.batches, total.rows, total.loss) == (3, 9, 3.0)
    assert all(names == [b"weight", b"input"] for names in seen)  # what stays comes along
    assert merged == [1, 1, 1]  # the batches' own Summaries, which the daemon merges


def test_streams_with_retry_by_hand_and_without_batches(kind, daemon):
    assert kind.stream(daemon.address, 20, "cross_entropy", [])[1].batches == 0
    with lossd.connect(daemon.address, 20) as client, client.stream("sigmoid", window=1) as stream:
        for step in range(5):
            stream.send({"input": np.float32(0)})
            if step == 2:
                daemon.kill()
                daemon.start()
            assert next(stream)["output"] == 0.5
        stream.finish()
        with pytest.raises(StopIteration):
            next(stream)
        assert stream.summary.batches == 5
    with lossd.connect(daemon.address, 20) as client:
        with client.stream("sigmoid", ({"input": X} for _ in itertools.count()), window=4) as stream:
            next(stream)
        with pytest.raises(lossd.Cancelled):
            next(stream)
        with client.stream("cross_entropy", [{"input": X.reshape(1, 3), "target": [7]}]) as stream:
            with pytest.raises(lossd.InvalidArgument, match=r"target\[0\] is 7"):
                list(stream)
        assert client.sigmoid(np.float32(0), timeout=20) == 0.5


def test_a_mistake_in_a_batch_ends_a_stream_with_retry(kind, daemon):
    batches = [{"input": X.reshape(1, 3), "target": [target]} for target in (0, 1, 7, 1)]
    with pytest.raises(lossd.InvalidArgument, match=r"batch 2: .*target\[0\] is 7"):
        kind.stream(daemon.address, 20, "cross_entropy", batches)

    def broken():
        yield batches[0]
        raise RuntimeError("no more data")

    with pytest.raises(RuntimeError, match="no more data"):
        kind.stream(daemon.address, 20, "cross_entropy", broken())

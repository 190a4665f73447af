"""Big tensors go by shared memory, by themselves, and nobody notices but the clock."""

import asyncio
import gc
import os
import resource
import signal
import subprocess
import threading
import time
import traceback

import numpy as np
import pytest

import lossd
import lossd._driver
import lossd.testing
from conftest import segments
from fakes import HI, SHM_HI, answer, serving, status, tensor
from wire import REGION, RELEASE, block, frame, number, parse

X = np.random.default_rng(1).normal(size=(300, 1000)).astype(np.float32)  # 1.2 MB
Y = np.arange(300) % 1000


def softmax(x):
    e = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def by_socket(monkeypatch):
    monkeypatch.setattr(lossd._driver, "SHARED_MIN", 1 << 60)


def crossed(client, work):
    """Bytes that the sockets carried meanwhile, and what `work` returns."""
    def carried():
        status = client.status()
        return status.bytes_received + status.bytes_sent

    # A status takes bytes itself, the more the more functions were called before.
    first, second = carried(), carried()
    result = work()
    return carried() - second - (second - first), result


def test_inputs_and_results_cross_no_socket_and_are_the_same(client, address, monkeypatch):
    count, (loss, grad) = crossed(client, lambda: client.cross_entropy(X, Y, with_grad=True))
    assert count < 3000
    output = client.softmax(X)
    both = client.binary_cross_entropy(softmax(X), softmax(X[::-1]), with_grad=True)
    by_socket(monkeypatch)
    with lossd.connect(address) as plain:
        count, (other_loss, other_grad) = crossed(plain, lambda: plain.cross_entropy(X, Y, with_grad=True))
        assert count > 2 * X.nbytes
        assert loss == other_loss and loss.dtype == np.float32
        np.testing.assert_array_equal(grad, other_grad)
        np.testing.assert_array_equal(output, plain.softmax(X))
        for ours, theirs in zip(both, plain.binary_cross_entropy(softmax(X), softmax(X[::-1]), with_grad=True)):
            np.testing.assert_array_equal(ours, theirs)


def test_every_layout_and_type(client):
    for x in (X.T, X[::2], X[:, ::3], np.asfortranarray(X), X.astype(">f4"), X.astype(np.float64),
              X.astype(np.float16)):
        output, grad = client.softmax(x, with_grad=True)
        assert output.dtype == grad.dtype == x.dtype.newbyteorder("=") and output.shape == grad.shape == x.shape
        np.testing.assert_allclose(output, softmax(x), rtol=1e-2 if x.dtype.itemsize == 2 else 1e-5, atol=1e-4)
    bits = lossd.BFloat16Array((X.view(np.uint32) >> 16).astype(np.uint16))
    result = client.sigmoid(bits)
    assert result.shape == X.shape and np.dtype(getattr(result, "dtype", np.uint16)).itemsize == 2
    assert client.softmax(X, dtype="float64").dtype == np.float64
    assert client.sigmoid(np.zeros(400_000, np.int64)).tolist() == [0.5] * 400_000
    assert client.cross_entropy(np.zeros((200_000, 2), np.float32), np.zeros(200_000, np.int64),
                                reduction="none").shape == (200_000,)


def test_small_tensors_go_by_the_socket(client):
    before = segments()
    client.sigmoid(np.zeros(10_000, np.float32))
    assert segments() == before


def test_results_are_ones_own_as_long_as_one_has_them(address):
    with lossd.connect(address) as client:
        first = client.softmax(X)
        copy = first.copy()
        part = first[100:200, ::7]
        view = memoryview(first)
        first += 1
        others = [client.softmax(X * n) for n in range(2, 5)]
        np.testing.assert_array_equal(first, copy + 1)
        del first
        gc.collect()
        for n in range(20):
            client.softmax(X * n)
        np.testing.assert_array_equal(part, copy[100:200, ::7] + 1)
        np.testing.assert_array_equal(np.asarray(view), copy + 1)
        for n, other in enumerate(others, 2):
            np.testing.assert_allclose(other, softmax(X * n), rtol=1e-4, atol=1e-7)
    gc.collect()
    np.testing.assert_array_equal(part, copy[100:200, ::7] + 1)  # the client is gone


def test_memory_is_used_again(address):
    gc.collect()
    before = segments()
    with lossd.connect(address) as client:
        for _ in range(100):
            result = client.softmax(X)
        assert segments() <= before + 4
        del result
    gc.collect()
    assert segments() == before


def test_many_results_at_once_are_bounded(address, monkeypatch):
    monkeypatch.setattr(lossd._driver, "SHARED_MAX", 10 << 20)
    with lossd.connect(address) as client:
        kept = [client.softmax(X + n) for n in range(20)]  # 24 MB: the later ones came by the socket
        for result in kept:
            np.testing.assert_allclose(result, softmax(X), rtol=1e-3, atol=1e-6)


def test_an_array_of_empty_is_read_where_it_lies(address):
    with lossd.connect(address) as client:
        x = client.empty(X.shape)
        assert x.dtype == np.float32 and x.shape == X.shape
        x[...] = X
        own = segments()
        np.testing.assert_array_equal(client.softmax(x), client.softmax(x))
        np.testing.assert_allclose(client.softmax(x[16:]), softmax(X[16:]), rtol=1e-5)  # at a multiple of 64
        assert segments() <= own + 2  # of the two results that there were at once: nothing was copied
        most = segments()
        np.testing.assert_allclose(client.softmax(x.ravel()[1:]), softmax(X.ravel()[1:]), rtol=1e-5, atol=1e-9)
        copied = client.submit("softmax", {"input": x.ravel()[1:]}, outputs=["output"])
        results = [client.softmax(x), client.softmax(x), copied.result()]
        assert segments() > most and len(results) == 3  # a copy has memory of its own
        del results, copied
        # A gradient's place is its own, whatever the input's.
        _, grad = client.cross_entropy(x, Y, with_grad=True)
        np.testing.assert_array_equal(x, X)
        assert client.empty(0).shape == (0,) and client.empty((2, 3), np.int64).dtype == np.int64


def test_a_result_is_read_where_it_lies_as_the_input_of_another_call(address):
    with lossd.connect(address) as client:
        first = client.softmax(X)
        second = client.softmax(first)
        own = segments()
        np.testing.assert_allclose(second, softmax(first), rtol=1e-5)
        for _ in range(5):
            del second
            second = client.softmax(first)
        assert segments() == own  # a copy would have memory of its own
        first[:] = X
        np.testing.assert_allclose(client.softmax(first), softmax(X), rtol=1e-5)


@pytest.mark.parametrize("is_stream", [False, True])
def test_what_nobody_waits_for_is_read_all_the_same(is_stream):
    """A daemon ends a connection from which nothing is taken."""
    x = np.zeros((1000, 1000), np.float32)
    with lossd.testing.serve(["--set", "limits.write_timeout=1500ms"]) as address, lossd.connect(address) as client:
        if is_stream:
            with client.stream("sigmoid", [{"input": x}] * 4, window=4) as stream:  # its results come by the socket
                next(stream)
                time.sleep(4)
                assert len(list(stream)) == 3
        else:
            pending = [client.submit("sigmoid", {"input": x}) for _ in range(4)]
            time.sleep(4)
            assert all((item.result()["output"] == 0.5).all() for item in pending)


def test_a_child_gives_back_the_memory_of_results_that_it_drops(address):
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    with lossd.connect(address) as client:
        results = [client.softmax(np.ones((2000, 1000), np.float32)) for _ in range(5)]
        child = os.fork()
        if child == 0:
            before = resident()
            assert results[3][0, 0] == np.float32(0.001)
            results.clear()
            gc.collect()
            os._exit(0 if before - resident() > 30 << 20 else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert all(result.sum() == pytest.approx(2000) for result in results)


def test_over_tcp_there_is_none(monkeypatch, tmp_path):
    log = tmp_path / "log"
    with open(log, "w") as file:
        process = subprocess.Popen([lossd.testing.binary(), "--listen", "tcp:127.0.0.1:0"], stderr=file)
    try:
        while "is ready" not in log.read_text():
            time.sleep(0.01)
        address = log.read_text().split("listening on ")[1].split()[0]
        with lossd.connect(address) as client:
            np.testing.assert_allclose(client.softmax(X), softmax(X), rtol=1e-5)
            x = client.empty(X.shape)
            x[...] = X
            np.testing.assert_allclose(client.softmax(x), softmax(X), rtol=1e-5)
    finally:
        process.kill()
        process.wait()


def test_a_daemon_that_wants_no_more_gets_it_by_the_socket():
    with lossd.testing.serve(["--set", "limits.connection_bytes=4MiB", "--set", "limits.payload_bytes=4MiB"]) as address:
        with lossd.connect(address) as client:
            for n in range(10):
                np.testing.assert_allclose(client.softmax(X * n), softmax(X * n), rtol=1e-4, atol=1e-7)


def test_a_result_of_another_size_than_was_thought_comes_by_the_socket(both):
    seen = []

    def serve(fake):
        fake.send(SHM_HI)
        fake.frame()
        for _ in range(2):
            fake.give_region(*fake.region())
        request = fake.request()
        outputs = [parse(item) for item in parse(request[3])[4]]
        seen.append([2 in output for output in outputs])
        fake.send(status(3, "the place for it has 1 bytes", stream=request[1]))
        request = fake.request()
        seen.append([2 in parse(item) for item in parse(request[3])[4]])
        fake.send(answer(tensor("output"), stream=request[1]))
        fake.until_closed()

    with serving(serve) as address:
        assert both.evaluate(address, "sigmoid", {"input": X}, outputs=["output"])["output"].shape == (3,)
    assert seen == [[True], [False]]


def test_results_of_functions_of_any_name_have_a_place_until_one_had_another_size(both):
    seen = []

    def first(fake):
        fake.send(SHM_HI)
        fake.frame()
        for _ in range(2):
            fake.give_region(*fake.region())
        request = fake.request()
        seen.append([2 in parse(item) for item in parse(request[3])[4]])
        fake.send(status(3, "the place for it has 1 bytes", stream=request[1]))
        for _ in range(2):
            request = fake.request()
            seen.append([2 in parse(item) for item in parse(request[3])[4]])
            fake.send(answer(tensor("output"), stream=request[1]))
        fake.until_closed()

    with serving(first) as address:
        outcomes = both.evaluate_in_turn(address, 2, "strange", {"input": X}, outputs=["output"])
    assert [outcome["output"].shape for outcome in outcomes] == [(3,)] * 2
    assert seen == [[True], [False], [False]]


def test_a_refused_region_and_a_result_that_nobody_asked_for(both):
    def refuse(fake):
        fake.send(SHM_HI)
        fake.frame()
        region = fake.frame()
        fake.send(frame(REGION, 0, number(1, parse(region[3])[1][0]) + block(2, number(1, 8) + block(2, "no"))))
        request = fake.request()
        assert len(request[4]) == X.nbytes
        fake.send(answer(stream=request[1]))
        fake.until_closed()

    with serving(refuse) as address:
        assert both.evaluate(address, "sigmoid", {"input": X}, outputs=["output"])["output"][0] == 0.5

    def lie(fake):
        fake.send(HI)
        request = fake.request()
        fake.send(answer(tensor(storage=block(6, number(1, 77) + number(3, 12))), b"", stream=request[1]))
        fake.until_closed()

    with serving(lie) as address, pytest.raises(lossd.Internal, match="nobody asked for"):
        both.evaluate(address, "sigmoid", {"input": X[0]}, outputs=["output"])


def test_a_call_that_was_left_keeps_its_memory_until_the_daemon_has_ended_it(tmp_path):
    process = subprocess.Popen(
        [lossd.testing.binary(), "--listen", f"unix:{tmp_path}/lossd.sock"], stderr=subprocess.DEVNULL)
    try:
        while not (tmp_path / "lossd.sock").exists():
            time.sleep(0.01)
        time.sleep(0.1)
        with lossd.connect(f"unix:{tmp_path}/lossd.sock") as client:
            client.softmax(X)
            client.softmax(X)  # segments are there
            process.send_signal(signal.SIGSTOP)
            os.waitpid(process.pid, os.WUNTRACED)
            gc.collect()
            one = segments()
            with pytest.raises(lossd.DeadlineExceeded):
                client.softmax(X * 0, timeout=0.1)
            pending = client.submit("softmax", {"input": X}, outputs=["output"])
            process.send_signal(signal.SIGCONT)
            np.testing.assert_allclose(pending.result()["output"], softmax(X), rtol=1e-5)
            both = segments()
            assert both == one + 2  # another input and another result: the first call's were in use
            del pending
            for _ in range(20):
                np.testing.assert_allclose(client.softmax(X), softmax(X), rtol=1e-5)
            assert segments() == both  # and are used again
            # When the daemon dies instead, what it was at is not used again.
            process.send_signal(signal.SIGSTOP)
            os.waitpid(process.pid, os.WUNTRACED)
            pending = client.submit("softmax", {"input": X}, outputs=["output"])
            process.kill()
            with pytest.raises(lossd.Unavailable):
                pending.result()
            del pending
            gc.collect()
            assert segments() == one - 2
    finally:
        process.kill()
        process.wait()


def test_after_a_fork_neither_sees_what_the_other_does(address):
    with lossd.connect(address) as client:
        result = client.softmax(X)
        truth = result.copy()
        client.softmax(X)
        ready, go = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                result[:100] = 7  # in place: the parent's stays
                os.write(ready[1], b"x")
                os.read(go[0], 1)
                mine = client.softmax(X * 2)
                code = 0 if (result[100:] == truth[100:]).all() and (result[:100] == 7).all() and np.allclose(
                    mine, softmax(X * 2), rtol=1e-4, atol=1e-7) else 2
            finally:
                os._exit(code)
        os.read(ready[0], 1)
        assert (result == truth).all()
        result += 1
        del result
        gc.collect()
        for n in range(20):
            client.softmax(X * n)  # must not write to what the child still has
        os.write(go[1], b"x")
        assert os.waitpid(child, 0)[1] == 0
        np.testing.assert_allclose(client.softmax(X), truth)
        for end in (*ready, *go):
            os.close(end)


def arrays_of(both, address):
    """An array of `empty` and a result, of a client that is closed by then, and what is in them."""
    if both.__name__ == "Threads":
        with lossd.connect(address) as client:
            x = client.empty(X.shape)
            x[...] = X
            return x, client.softmax(x)

    async def main():
        async with lossd.connect_async(address) as client:
            x = await client.empty(X.shape)
            x[...] = X
            return x, await client.softmax(x)
    return asyncio.run(main())


def test_arrays_stay_as_they_are_when_their_client_is_closed(both):
    """The daemon frees what lay in its memory at once: the arrays are ordinary ones by then."""
    with lossd.testing.serve(["--set", "limits.region_grace=0"]) as address:
        x, output = arrays_of(both, address)
        time.sleep(0.3)
        np.testing.assert_array_equal(x, X)
        np.testing.assert_allclose(output, softmax(X), rtol=1e-4, atol=1e-7)
        x += 1
        output[:] = 2
        np.testing.assert_array_equal(x, X + 1)
        with lossd.connect(address) as client:
            np.testing.assert_allclose(client.softmax(x), softmax(X), rtol=1e-4, atol=1e-7)  # copied


def test_arrays_stay_as_they_are_when_the_daemon_ends_the_connection(tmp_path):
    """Whether it dies, is restarted, or finds the client idle."""
    options = ["--listen", f"unix:{tmp_path}/lossd.sock", "--set", "limits.region_grace=500ms",
               "--set", "limits.idle_timeout=200ms"]
    gc.collect()
    before = segments()
    for number_ in (signal.SIGKILL, signal.SIGTERM, None):
        process = subprocess.Popen([lossd.testing.binary(), *options], stderr=subprocess.DEVNULL)
        try:
            while True:
                try:
                    client = lossd.connect(f"unix:{tmp_path}/lossd.sock")
                    x = client.empty(X.shape)
                    break
                except lossd.Unavailable:
                    time.sleep(0.01)
            x[...] = X
            output = client.softmax(x)
            unseen = client.submit("softmax", {"input": x}, outputs=["output"])
            while not unseen.done():
                time.sleep(0.001)
            assert segments() > before
            if number_ is not None:
                process.send_signal(number_)
                process.wait()
            time.sleep(1.5)  # idle, closed, and freed
            assert segments() == before
            np.testing.assert_array_equal(x, X)
            for result in (output, unseen.result()["output"]):
                np.testing.assert_allclose(result, softmax(X), rtol=1e-4, atol=1e-7)
            client.close()
        finally:
            process.kill()
            process.wait()


def test_arrays_of_a_loop_that_is_busy_or_gone_stay_as_they_are():
    with lossd.testing.serve(["--set", "limits.region_grace=300ms", "--set", "limits.idle_timeout=200ms"]) as address:
        async def main():
            client = lossd.connect_async(address)
            x = await client.empty(X.shape)
            x[...] = X
            output = await client.softmax(x)
            time.sleep(1.2)  # the loop stands meanwhile
            return client, x, output

        client, x, output = asyncio.run(main())
        np.testing.assert_array_equal(x, X)
        np.testing.assert_allclose(output, softmax(X), rtol=1e-4, atol=1e-7)
        del client


def test_writes_of_other_threads_are_not_lost_while_the_connection_ends():
    with lossd.testing.serve(["--set", "limits.region_grace=0"]) as address:
        for _ in range(5):
            client = lossd.connect(address)
            x = client.empty(4 << 20, np.uint32)
            x[:] = 0
            stop = threading.Event()

            def count():
                while not stop.is_set():
                    np.add(x, 1, out=x)

            thread = threading.Thread(target=count)
            thread.start()
            time.sleep(0.05)
            client.close()
            time.sleep(0.1)
            stop.set()
            thread.join()
            assert x[0] > 0 and (x == x[0]).all()


def test_without_room_for_a_descriptor_every_call_still_has_its_result(both, address):
    for spare in range(10):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                def limit():
                    """Room for exactly `spare` descriptors more."""
                    taken = [os.dup(0) for _ in range(spare + 1)]
                    for fd in taken:
                        os.close(fd)
                    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[-1], resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

                async def main():
                    async with lossd.connect_async(address) as client:
                        await client.ping()
                        limit()
                        for _ in range(3):
                            np.testing.assert_allclose(await client.softmax(X), softmax(X), rtol=1e-4, atol=1e-7)

                if both.__name__ == "Threads":
                    with lossd.connect(address) as client:
                        client.ping()
                        limit()
                        for _ in range(3):
                            np.testing.assert_allclose(client.softmax(X), softmax(X), rtol=1e-4, atol=1e-7)
                else:
                    asyncio.run(main())
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0, spare


def test_memory_that_could_end_the_process_is_not_touched(both):
    released = []
    for wrong in ({"size": 4096}, {"size": 0, "seals": 0}, {"seals": 0}, {"seals": 4}, {"descriptors": 0}):
        def serve(fake):
            fake.send(SHM_HI)
            number_, length = fake.region()
            fake.give_region(number_, length, **wrong)
            request = fake.request()
            assert len(request[4]) == X.nbytes  # by the socket
            released.append([parse(item[3])[1][0] for item in fake.frames if item[0] == RELEASE] == [number_])
            fake.send(answer(stream=request[1]))
            fake.until_closed()

        with serving(serve) as address:
            assert both.evaluate(address, "sigmoid", {"input": X}, outputs=["output"])["output"].shape == (3,)
    assert all(released) and len(released) == 5


def test_a_descriptor_that_nobody_asked_for_is_the_connections_end(both):
    def serve(fake):
        fake.send(HI)
        fake.request()
        fake.give_region(1, 65536)
        fake.until_closed()

    with serving(serve) as address, pytest.raises(lossd.Unavailable, match="descriptor that nobody asked for"):
        both.evaluate(address, "sigmoid", {"input": X[0]}, outputs=["output"])


def test_streams(both, address):
    x = np.random.default_rng(5).normal(size=(64_000, 10)).astype(np.float32)
    y = np.random.default_rng(6).integers(0, 10, 64_000)
    with lossd.connect(address) as client:
        before = client.status().bytes_received
        results, summary = both.stream(
            address, "cross_entropy",
            ({"input": x[n:n + 8000], "target": y[n:n + 8000]} for n in range(0, 64_000, 8000)),
            outputs=["loss", "grad.input"])
        assert client.status().bytes_received - before < 10_000
        assert len(results) == 8 and summary.rows == 64_000
        assert summary.loss == pytest.approx(float(client.cross_entropy(x.astype(np.float64), y)), rel=1e-6)
        np.testing.assert_allclose(np.concatenate([result["grad.input"] for result in results]) / 8,
                                   client.cross_entropy(x, y, with_grad=True)[1], rtol=1e-5, atol=1e-9)


def test_many_threads_and_many_tasks(address):
    problems = []
    with lossd.connect(address) as client:
        def work(n):
            for step in range(10):
                result = client.softmax(X * (n + step))
                if not np.allclose(result[::50], softmax(X[::50] * (n + step)), rtol=1e-4, atol=1e-7):
                    problems.append((n, step))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not problems

    async def main():
        async with lossd.connect_async(address) as client:
            results = await asyncio.gather(*(client.softmax(X * n) for n in range(40)))
            for n, result in enumerate(results):
                np.testing.assert_allclose(result[::50], softmax(X[::50] * n), rtol=1e-4, atol=1e-7)
            x = await client.empty(X.shape)
            x[...] = X
            np.testing.assert_allclose(await client.softmax(x), softmax(X), rtol=1e-5)
            tasks = [asyncio.ensure_future(client.softmax(X)) for _ in range(20)]
            await asyncio.sleep(0.001)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            np.testing.assert_allclose(await client.softmax(X), softmax(X), rtol=1e-5)

    asyncio.run(main())


def test_it_is_quicker_than_the_socket(address, monkeypatch):
    """A bound that only a broken path misses: the numbers are the benchmark's."""
    x = np.tile(X, (20, 1))
    times = {}
    with lossd.connect(address) as client, lossd.connect(address) as plain:
        client.softmax(x)
        by_socket(monkeypatch)
        for _ in range(7):
            for name, each in (("socket", plain), ("shared", client)):
                began = time.perf_counter()
                each.softmax(x)
                times.setdefault(name, []).append(time.perf_counter() - began)
    assert min(times["shared"]) < min(times["socket"])

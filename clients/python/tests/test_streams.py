"""Streams of both clients against a daemon."""

import asyncio
import threading
import time

import numpy as np
import pytest

import lossd

SOURCE = np.random.default_rng(3)
X = SOURCE.normal(size=(1000, 5)).astype(np.float32)
Y = SOURCE.integers(0, 5, 1000)
Y[::7] = -100
W = SOURCE.uniform(0.5, 2, 5).astype(np.float32)


def sums(weight, first=0, last=1000):
    """loss_sum and weight_sum in float64."""
    x, y = X[first:last].astype(np.float64), Y[first:last]
    kept = y != -100
    logs = x - np.log(np.exp(x).sum(1, keepdims=True))
    each = weight.astype(np.float64)[y[kept]]
    return -(each * logs[kept, y[kept]]).sum(), each.sum()


def batches(size=30, **kept):
    if kept:
        yield kept
    for first in range(0, 1000, size):
        yield {"input": X[first:first + size], "target": Y[first:first + size]}


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("window", [1, 2, 16])
def test_the_summary_is_that_of_one_call(both, address, reduction, window):
    results, summary = both.stream(address, "cross_entropy", batches(weight=W), {"reduction": reduction},
                                   ["loss", "grad.input"], window=window)
    assert len(results) == 34 and results[0]["grad.input"].shape == (30, 5)
    loss_sum, weight_sum = sums(W)
    assert (summary.batches, summary.rows) == (34, 1000)
    np.testing.assert_allclose(summary.loss, loss_sum / (weight_sum if reduction == "mean" else 1), rtol=1e-7)
    assert summary.state["weight_sum"] == pytest.approx(weight_sum)
    for index, result in enumerate(results):
        part = sums(W, index * 30, index * 30 + 30)
        np.testing.assert_allclose(result["loss"], part[0] / (part[1] if reduction == "mean" else 1), rtol=1e-5)


def test_a_weight_that_a_batch_brings_counts_from_that_batch_on(both, address):
    other = np.array([1, 4, 1, 2, 1], np.float32)

    def source():
        for first in range(0, 1000, 100):
            yield {"input": X[first:first + 100], "target": Y[first:first + 100],
                   "weight": W if first == 0 else other if first == 300 else None}

    _, summary = both.stream(address, "cross_entropy", source(), {"reduction": "sum"})
    np.testing.assert_allclose(summary.loss, sums(W, 0, 300)[0] + sums(other, 300)[0], rtol=1e-7)


def test_a_bad_batch_ends_the_stream_after_those_before_it(address):
    source = [{"input": X[:3], "target": np.array([0, 1, 2])}] * 3 + [{"input": X[:3], "target": np.array([0, 9, 2])}]
    with lossd.connect(address) as client:
        stream, taken = client.stream("nll_loss", source), []
        with pytest.raises(lossd.InvalidArgument, match=r"batch 3.*target\[1\] is 9") as caught:
            for result in stream:
                taken.append(result)
        assert len(taken) == 3 and caught.value.metadata["lossd-batch-id"] == b"3"
        with pytest.raises(lossd.InvalidArgument):
            next(stream)
        with pytest.raises(lossd.InvalidArgument):
            stream.send(source[0])


def test_an_empty_stream_and_one_without_a_loss(both, address):
    _, summary = both.stream(address, "cross_entropy", [], {"reduction": "sum"})
    assert (summary.batches, summary.rows, summary.loss) == (0, 0, 0)
    results, summary = both.stream(address, "softmax", [{"input": X[:3]}])
    assert results[0]["output"].shape == (3, 5) and summary.values == {}
    with pytest.raises(KeyError):
        summary.loss
    with pytest.raises(lossd.NotFound):
        both.stream(address, "nope", [])
    with pytest.raises(ValueError, match="window"):
        both.stream(address, "sigmoid", [], window=0)


def test_what_the_source_raises_is_raised(both, address):
    def source():
        yield {"input": X}
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        both.stream(address, "sigmoid", source())
    with pytest.raises(lossd.InvalidArgument, match="complex"):
        both.stream(address, "sigmoid", [{"input": X}, {"input": X.astype(complex)}])


def test_the_timeout_is_the_whole_streams(both, address):
    def endless():
        while True:
            yield {"input": X}

    began = time.monotonic()
    with pytest.raises(lossd.DeadlineExceeded):
        both.stream(address, "sigmoid", endless(), timeout=0.3)
    assert time.monotonic() - began < 10


def test_results_that_nobody_takes_hold_the_source(address):
    """Memory is bounded by the window, on both sides."""
    made = []

    def source():
        for number in range(1000):
            made.append(number)
            yield {"input": X}

    with lossd.connect(address) as client, client.stream("sigmoid", source(), window=5) as stream:
        time.sleep(0.3)
        assert len(made) <= 6
        for _ in range(20):
            next(stream)
        time.sleep(0.3)
        assert 20 < len(made) <= 26


def test_by_hand_in_one_thread(address):
    with lossd.connect(address) as client:
        stream = client.stream("sigmoid")
        for number in range(20):
            stream.send({"input": np.full(2, number, np.float32)}, number)
            assert next(stream)["output"][0] == pytest.approx(1 / (1 + np.exp(-number)))
        stream.finish()
        stream.finish()
        assert list(stream) == [] and stream.summary.batches == 20
        assert "batches=20" in repr(stream.summary)
        with pytest.raises(lossd.FailedPrecondition):
            stream.send({"input": X})


def test_by_hand_in_asyncio(address):
    async def main():
        async with lossd.connect_async(address) as client:
            stream = client.stream("sigmoid")
            for number in range(20):
                await stream.send({"input": np.full(2, number, np.float32)}, number)
                result = await stream.__anext__()
                assert result["output"][0] == pytest.approx(1 / (1 + np.exp(-number)))
            await stream.finish()
            assert [result async for result in stream] == [] and stream.summary.batches == 20
            with pytest.raises(lossd.FailedPrecondition):
                await stream.send({"input": X})

            async def source():
                for number in range(30):
                    await asyncio.sleep(0)
                    yield {"input": X[:number]}

            stream = client.stream("sigmoid", source())
            assert [len(result["output"]) async for result in stream] == list(range(30))
            # Many at once share the connection.
            streams = [client.stream("cross_entropy", batches()) for _ in range(20)]

            async def run(stream):
                return [result async for result in stream]

            results = await asyncio.gather(*map(run, streams))
            assert {len(result) for result in results} == {34}
            assert len({stream.summary.loss for stream in streams}) == 1

    asyncio.run(main())


def in_flight(client):
    return client.status().calls_in_flight - 1  # the status itself


def test_leaving_early_ends_the_call_and_its_threads(address):
    def endless():
        while True:
            yield {"input": X}

    with lossd.connect(address) as client:
        client.ping()
        before = threading.active_count()
        for _ in range(5):
            with client.stream("sigmoid", endless()) as stream:
                next(stream)
        with pytest.raises(lossd.Cancelled):
            for _ in stream:
                pass
        deadline = time.monotonic() + 10
        while in_flight(client) or threading.active_count() > before:
            assert time.monotonic() < deadline
            time.sleep(0.02)

        async def main():
            async with lossd.connect_async(address) as other:
                for _ in range(5):
                    async with other.stream("sigmoid", endless()) as stream:
                        async for _ in stream:
                            break
                # A task that is cancelled cancels its stream.
                stream = other.stream("sigmoid", endless())
                task = asyncio.ensure_future(consume(stream))
                await asyncio.sleep(0.05)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                deadline = time.monotonic() + 10
                while (await other.status()).calls_in_flight > 1:
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.02)

        async def consume(stream):
            async for _ in stream:
                pass

        asyncio.run(main())


def test_one_thread_sends_while_another_takes(address):
    with lossd.connect(address) as client:
        stream = client.stream("cross_entropy", outputs=["loss"])

        def send():
            for number, batch in enumerate(batches(7)):
                stream.send(batch, number)
            stream.finish()

        thread = threading.Thread(target=send)
        thread.start()
        assert len(list(stream)) == 143
        thread.join()
        np.testing.assert_allclose(stream.summary.loss, np.divide(*sums(np.ones(5))), rtol=1e-7)


def test_a_status_counts_itself_and_nothing_else(client):
    assert {client.status().calls_in_flight for _ in range(300)} == {1}


def parts(client, cuts, weight, attributes):
    """What the rows between two cuts each came to, as bytes that go anywhere."""
    found = []
    for first, last in zip([0, *cuts], [*cuts, 1000]):
        stream = client.stream("cross_entropy", [{"weight": weight}, {"input": X[first:last], "target": Y[first:last]}],
                               attributes)
        list(stream)
        found.append(stream.summary.to_bytes())
    return found


@pytest.mark.parametrize("retry", [None, 5])
def test_parts_merge_to_the_bits_of_the_whole(address, retry):
    attributes = {"label_smoothing": 0.1}
    with lossd.connect(address, retry=retry) as client:
        whole = lossd.Summary.from_bytes(parts(client, [], W, attributes)[0])
        for seed in range(5):
            source = np.random.default_rng(seed)
            found = parts(client, sorted(source.choice(np.arange(1, 1000), 9, replace=False)), W, attributes)
            source.shuffle(found)
            merged = client.merge("cross_entropy", [lossd.Summary.from_bytes(part) for part in found], attributes)
            assert (merged.loss, merged.state, merged.rows) == (whole.loss, whole.state, 1000)
        one, = parts(client, [], W, attributes)
        many = client.merge("cross_entropy", [lossd.Summary.from_bytes(one)] * 600, attributes)
        assert (many.batches, many.rows) == (600, 600_000) and many.loss == pytest.approx(whole.loss, rel=1e-15)


def test_what_does_not_belong_together_is_not_merged(address):
    with lossd.connect(address) as client:
        one, = parts(client, [], W, {})
        with pytest.raises(ValueError):
            lossd.Summary.from_bytes(one[:-1])
        with pytest.raises(ValueError):
            client.merge("cross_entropy", [])
        summary = lossd.Summary.from_bytes(one)
        with pytest.raises(lossd.InvalidArgument, match="is of the function `cross_entropy`"):
            client.merge("nll_loss", [summary])
        place = one.index(b"loss_sum", one.index(b"cross_entropy")) + len(b"loss_sum")
        bad = bytearray(one)
        bad[place + 2] = 255  # what else than numbers was added
        with pytest.raises(lossd.InvalidArgument, match="of bytes that are none"):
            client.merge("cross_entropy", [lossd.Summary.from_bytes(bytes(bad))])

    async def merged():
        async with lossd.connect_async(address) as client:
            return await client.merge("cross_entropy", [summary, summary])

    def named(kernels):
        message = lossd._schema.message("Summary").FromString(one)
        message.whole.kernels = kernels
        return lossd.Summary.from_bytes(message.SerializeToString())

    with lossd.connect(address) as client:
        assert client.merge("cross_entropy", [named(f"k{index}") for index in range(16)]).rows == 16_000
        for names in ([f"k{index}" for index in range(17)], ["x" * 257], ["a b"], ["é"]):
            with pytest.raises(lossd.InvalidArgument, match="kernels"):
                client.merge("cross_entropy", [named(name) for name in names])

    assert asyncio.run(merged()).rows == 2000

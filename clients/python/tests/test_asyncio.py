"""What is asyncio's own: many calls at once, cancelled tasks, other loops, forks."""

import asyncio
import gc
import os
import time

import numpy as np
import pytest

import lossd

X = np.array([[1, 2, 3], [1, 2, 0], [0, 2, 1]], np.float32)
Y = np.array([2, 0, 1])


def test_a_thousand_calls_at_once(address):
    async def main():
        async with lossd.connect_async(address) as client:
            results = await asyncio.gather(*(client.sigmoid(np.float64(n / 100)) for n in range(1000)))
            np.testing.assert_allclose(results, 1 / (1 + np.exp(-np.arange(1000) / 100)), rtol=1e-14)
            # Big ones and small ones, good ones and bad ones.
            wide = np.linspace(-5, 5, 100_000)
            outcomes = await asyncio.gather(
                *(client.sigmoid(wide) if n % 100 == 0 else client.nll_loss(X, Y + (n % 2)) for n in range(1000)),
                return_exceptions=True)
            for n, outcome in enumerate(outcomes):
                if n % 100 == 0:
                    np.testing.assert_allclose(outcome, 1 / (1 + np.exp(-wide)), rtol=1e-14)
                elif n % 2:
                    assert isinstance(outcome, lossd.InvalidArgument)
                else:
                    np.testing.assert_allclose(outcome, -(3 + 1 + 2) / 3, rtol=1e-6)

    asyncio.run(main())


def test_every_method(address):
    async def main():
        async with lossd.connect_async(address) as client:
            loss, grad = await client.cross_entropy(X, Y, with_grad=True)
            assert grad.shape == X.shape and loss.shape == ()
            assert grad.flags.writeable
            assert (await client.status()).version.startswith("lossd/")
            assert len(await client.functions("sigmoid")) == 1
            assert 0 < await client.ping() < 5
            with pytest.raises(lossd.NotFound):
                await client.evaluate("nope", {})

    asyncio.run(main())


def test_cancelling_a_task_cancels_its_call(address):
    async def main():
        async with lossd.connect_async(address) as client:
            cancelled = 0
            for _ in range(20):
                slow = asyncio.ensure_future(client.softmax(np.zeros((400, 20_000))))
                await asyncio.sleep(0.01)
                slow.cancel()
                try:
                    await slow
                except asyncio.CancelledError:
                    cancelled += 1
            assert cancelled
            deadline = time.monotonic() + 10
            while (await client.status()).calls_in_flight > 1:  # the status itself
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)

    asyncio.run(main())


def test_a_timeout_of_asyncios_own_leaves_the_client_usable(address):
    async def main():
        async with lossd.connect_async(address) as client:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.softmax(np.zeros((400, 50_000))), 0.005)
            assert (await client.sigmoid(np.float32(0))) == 0.5

    asyncio.run(main())


def test_tasks_that_wait_for_their_turn_can_be_cancelled():
    import lossd.testing

    async def main(address):
        async with lossd.connect_async(address) as client:
            tasks = [asyncio.ensure_future(client.softmax(np.zeros((100, 20_000)))) for _ in range(40)]
            await asyncio.sleep(0.02)
            for task in tasks[::2]:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            for outcome in outcomes[1::2]:
                assert outcome.shape == (100, 20_000)
            assert (await client.sigmoid(np.float32(0))) == 0.5

    with lossd.testing.serve(["--set", "limits.streams=8"]) as address:
        asyncio.run(asyncio.wait_for(main(address), 60))


#: Loops that end with their connections open, on purpose.
leaves_open = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@leaves_open
def test_one_object_serves_one_loop_after_another(address):
    client = lossd.connect_async(address)

    async def main():
        return await client.sigmoid(np.float32(0))

    assert asyncio.run(main()) == asyncio.run(main()) == 0.5
    client = None
    gc.collect()


@leaves_open
def test_a_child_with_a_loop_of_its_own_connects_anew(address):
    """asyncio's own loops do not live through a fork; the object does."""
    client = lossd.connect_async(address)

    async def main():
        return await client.sigmoid(np.float32(0))

    assert asyncio.run(main()) == 0.5
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if asyncio.run(main()) == 0.5 else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert asyncio.run(main()) == 0.5
    client = None
    gc.collect()

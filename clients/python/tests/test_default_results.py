"""Results that a call does not name: big ones go by shared memory once a client has seen what a function gives."""

import asyncio

import numpy as np

import lossd
from test_shared_memory import X, crossed, softmax


def test_a_result_that_was_not_named_crosses_no_socket_from_the_second_call_on(client, address):
    def evaluate():
        return client.evaluate("softmax", {"input": X}, {"dim": 1})

    count, first = crossed(client, evaluate)
    assert count > X.nbytes and list(first) == ["output"]
    count, second = crossed(client, evaluate)
    assert count < 3000 and list(second) == ["output"]
    np.testing.assert_array_equal(first["output"], second["output"])

    async def main():
        async with lossd.connect_async(address) as other:
            await other.evaluate("softmax", {"input": X}, {"dim": 1})
            before = await other.status()
            found = await other.evaluate("softmax", {"input": X}, {"dim": 1})
            after = await other.status()
            assert after.bytes_sent - before.bytes_sent < 10_000
            np.testing.assert_array_equal(found["output"], second["output"])

    asyncio.run(main())


def test_what_a_function_gave_before_is_no_promise(both, address):
    """A plugin may be exchanged for one that gives something else: what it gave is asked for by no name then."""
    def evaluate(client):
        client._defaults["softmax"] = ("grad.no_such_input", "output")
        return client.evaluate("softmax", {"input": X}, {"dim": 1})

    if both.__name__ == "Threads":
        with lossd.connect(address) as client:
            found = evaluate(client)
    else:
        async def main():
            async with lossd.connect_async(address) as client:
                return await evaluate(client)

        found = asyncio.run(main())
    assert list(found) == ["output"]
    np.testing.assert_allclose(found["output"], softmax(X), rtol=1e-5, atol=1e-7)

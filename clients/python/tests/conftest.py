import asyncio
import os
import pathlib
import sys

import pytest

import lossd
import lossd.testing

# Servers that tests play, and daemons with settings of their own.
ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "clients"), str(ROOT / "Tests" / "System")]


def pytest_addoption(parser):
    parser.addoption("--without-daemon", action="store_true", help="skip every test that starts a daemon")


def pytest_configure(config):
    if config.getoption("--without-daemon"):
        def skipped():
            pytest.skip("it starts a daemon")

        lossd.testing.binary = skipped


@pytest.fixture(scope="session")
def address():
    with lossd.testing.serve() as address:
        yield address


@pytest.fixture
def client(address):
    with lossd.connect(address) as client:
        yield client


def segments():
    """Memory files that this process has open."""
    found = set()
    for entry in os.listdir("/proc/self/fd"):
        try:
            if "memfd:lossd-region" in os.readlink(f"/proc/self/fd/{entry}"):
                found.add(os.stat(f"/proc/self/fd/{entry}").st_ino)
        except OSError:
            pass
    return len(found)


class Threads:
    """The client for threads, as the tests that both clients have to pass see it."""

    @staticmethod
    def evaluate(address, *arguments, **options):
        with lossd.connect(address) as client:
            return client.evaluate(*arguments, **options)

    @staticmethod
    def evaluate_in_turn(address, count, *arguments, **options):
        """The results of so many calls of one client, one after another."""
        with lossd.connect(address) as client:
            return [client.evaluate(*arguments, **options) for _ in range(count)]

    @staticmethod
    def evaluate_many(address, count, *arguments, **options):
        """The results, or exceptions, of so many calls at once."""
        with lossd.connect(address) as client:
            pending = [client.submit(*arguments, **options) for _ in range(count)]
            outcomes = []
            for item in pending:
                try:
                    outcomes.append(item.result())
                except lossd.LossdError as error:
                    outcomes.append(error)
            return outcomes

    @staticmethod
    def stream(address, *arguments, **options):
        """The results and the summary."""
        with lossd.connect(address) as client:
            stream = client.stream(*arguments, **options)
            return list(stream), stream.summary

    @staticmethod
    def ping(address):
        with lossd.connect(address) as client:
            return client.ping(5)


class Asyncio:
    """The same of the client for asyncio."""

    @staticmethod
    def evaluate(address, *arguments, **options):
        async def main():
            async with lossd.connect_async(address) as client:
                return await client.evaluate(*arguments, **options)

        return asyncio.run(main())

    @staticmethod
    def evaluate_in_turn(address, count, *arguments, **options):
        async def main():
            async with lossd.connect_async(address) as client:
                return [await client.evaluate(*arguments, **options) for _ in range(count)]

        return asyncio.run(main())

    @staticmethod
    def evaluate_many(address, count, *arguments, **options):
        async def main():
            async with lossd.connect_async(address) as client:
                return await asyncio.gather(
                    *(client.evaluate(*arguments, **options) for _ in range(count)), return_exceptions=True)

        return asyncio.run(main())

    @staticmethod
    def stream(address, *arguments, **options):
        async def main():
            async with lossd.connect_async(address) as client:
                stream = client.stream(*arguments, **options)
                return [result async for result in stream], stream.summary

        return asyncio.run(main())

    @staticmethod
    def ping(address):
        async def main():
            async with lossd.connect_async(address) as client:
                return await client.ping(5)

        return asyncio.run(main())


@pytest.fixture(params=[Threads, Asyncio], ids=["threads", "asyncio"])
def both(request):
    return request.param

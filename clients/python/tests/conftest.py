import pytest

import lossd
import lossd.testing


@pytest.fixture(scope="session")
def address():
    with lossd.testing.serve() as address:
        yield address


@pytest.fixture
def client(address):
    with lossd.connect(address) as client:
        yield client

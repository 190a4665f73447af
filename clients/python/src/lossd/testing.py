"""Private daemons for tests: what `lossd.serve` is, by the name that it had first."""

from __future__ import annotations

import contextlib
from typing import Iterator, Sequence

from . import _program


def binary() -> str:
    """The daemon's program: $LOSSD_BINARY, a wheel's, `lossd` on the PATH, or a source tree's build."""
    return _program.program()


@contextlib.contextmanager
def serve(arguments: Sequence[str] = ()) -> Iterator[str]:
    """Runs a daemon on a socket of its own and gives its address; it is stopped at the end."""
    binary()
    with _program.serve(arguments) as address:
        yield address

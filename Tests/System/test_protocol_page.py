"""docs/protocol.md's hex blocks: what a client sends, sent to a real daemon, is answered as it says."""

import re
import unittest

from daemon import ROOT, Daemon
from wire import Connection


class ProtocolPage(unittest.TestCase):
    def test_the_worked_examples_are_what_happens(self):
        text = (ROOT / "docs" / "protocol.md").read_text()
        blocks = [
            (side, bytes.fromhex("".join(line.split("#")[0] for line in lines.splitlines())))
            for side, lines in re.findall(r"```hex (\w+)\n(.*?)```", text, re.S)]
        self.assertGreaterEqual(len(blocks), 7)
        # The last bit of a sigmoid is the processor's; the reference's is everywhere the same.
        with Daemon(kernels="reference") as daemon:
            connection = Connection(daemon.unix, greet=False)
            for side, data in blocks:
                if side == "client":
                    connection.send(data)
            # After HELLO, which names the daemon's version and limits, the answers stand as they came.
            hello = connection.receive()
            self.assertEqual(hello[:2], (1, 0))
            for side, data in blocks:
                if side == "server":
                    self.assertEqual(connection.read(len(data)).hex(" "), data.hex(" "))
            connection.close()


if __name__ == "__main__":
    unittest.main()

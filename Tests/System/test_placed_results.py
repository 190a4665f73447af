"""Results of a plugin's function that go to shared memory: they go there, and nowhere else."""

import unittest

from conversations.peer import gaps
from isolation import HINGE, HINGE_GRADIENT, PluginDaemon
from wire import Shared, Tensor


class PlacedResults(unittest.TestCase):
    def test_what_is_brought_to_shared_memory_is_not_in_the_payload(self):
        for isolation in ("none", "process"):
            with self.subTest(isolation), PluginDaemon("hinge.so", plugins__isolation=isolation) as daemon, \
                    daemon.connect(features=("shm",)) as connection:
                memory = connection.region(1, 4096)
                try:
                    for placed, left in (("grad.input", "loss"), ("loss", "grad.input")):
                        count = 12 if placed == "grad.input" else 4
                        memory.map[64:64 + 12] = bytes(12)
                        message, payload = connection.finish(connection.start(
                            "hinge", HINGE, {}, {placed: Shared(1, 64, count), left: None}))
                        self.assertEqual(bytes(gaps(message, payload)), bytes(len(payload)), (placed, payload))
                        if placed == "grad.input":
                            self.assertEqual(Tensor(memory.map[64:76]).values(), HINGE_GRADIENT)
                finally:
                    memory.close()


if __name__ == "__main__":
    unittest.main()

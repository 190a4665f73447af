"""A daemon that is to end when nobody has been connected for a while."""

import time
import unittest

from daemon import Daemon
from wire import Tensor


class IdleExit(unittest.TestCase):
    def test_it_ends_in_order_after_the_time_without_a_connection(self):
        began = time.monotonic()
        with Daemon(idle_exit="500ms") as daemon:
            self.assertEqual(daemon.process.wait(20), 0)
            self.assertGreaterEqual(time.monotonic() - began, 0.5)

    def test_a_connection_keeps_it_though_it_says_nothing_and_counts_though_it_was_short(self):
        with Daemon(idle_exit="600ms") as daemon:
            with daemon.connect() as connection:
                time.sleep(1.2)
                result = connection.evaluate("sigmoid", {"input": Tensor([0.0])})
                self.assertEqual(result["output"].values(), [0.5])
            for _ in range(6):
                time.sleep(0.3)
                daemon.connect().close()
            last = time.monotonic()
            self.assertIsNone(daemon.process.poll())
            self.assertEqual(daemon.process.wait(20), 0)
            self.assertGreaterEqual(time.monotonic() - last, 0.5)

    def test_it_stays_where_nothing_is_said(self):
        with Daemon() as daemon:
            time.sleep(1)
            self.assertIsNone(daemon.process.poll())

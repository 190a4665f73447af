"""Benchmarks/service in its short form: its helpers build, and what it compares is what it says."""

import json
import subprocess
import sys
import tempfile
import unittest

from daemon import ROOT


class CallBenchmark(unittest.TestCase):
    def test_lossd_and_the_echo_are_measured_in_turn_small_and_big(self):
        with tempfile.NamedTemporaryFile("r") as file:
            subprocess.run(
                [sys.executable, ROOT / "Benchmarks" / "service", "--rounds", "1", "--seconds", "0.2", "--quick",
                 "--without-grpc", "--parts", "small,batch,connections,cores,idle", "--json", file.name],
                check=True, stderr=subprocess.DEVNULL, timeout=120)
            result = json.load(file)
        self.assertEqual(
            [(row["transport"], row["depth"]) for row in result["small"]],
            [("unix", 1), ("unix", 100), ("tcp", 1), ("tcp", 100), ("unix", 1), ("unix", 100)])
        for row in result["small"] + result["batch"]:
            for name in ("lossd", "echo"):
                self.assertGreater(row[name]["rate"], 1)
                self.assertTrue(0 < row[name]["p50"] <= row[name]["p99"] <= row[name]["max"])
            self.assertGreater(row["to_echo"], 0)
        self.assertEqual([row["call"] for row in result["batch"]], [
            f"{rows} x 10 with gradient" for rows in (1, 100, 10_000)])
        self.assertEqual([row["connections"] for row in result["connections"]], [1, 16])
        # Figures of so short a run say nothing about speed.
        self.assertGreater(len(result["cores"]), 3)
        for row in result["cores"]:
            for figure in (row["one"]["rate"], row["two"]["rate"], row["ratio"]):
                self.assertGreater(figure, 0, row["call"])
        self.assertLess(result["idle"]["fresh_mebibytes"], 25)


if __name__ == "__main__":
    unittest.main()

"""Which kernels compute."""
import os
import pathlib
import platform
import unittest

from daemon import Daemon

KERNELS_FIELD = 18  # of GetStatusResponse
X86 = platform.machine() == "x86_64"


def processor_has(*flags):
    text = pathlib.Path("/proc/cpuinfo").read_text()
    found = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return X86 and all(flag in found for flag in flags)


HAS_AVX2 = processor_has("avx2", "fma", "f16c", "bmi2")
HAS_AVX512 = HAS_AVX2 and processor_has("avx512f", "avx512dq", "avx512bw", "avx512vl")


def told(kernels):
    with Daemon(kernels=kernels) as daemon:
        return daemon.status()[KERNELS_FIELD][0].decode()


class KernelTests(unittest.TestCase):
    @unittest.skipIf("LOSSD_KERNELS" in os.environ, "LOSSD_KERNELS forces some")
    def test_the_best_kernels_of_the_processor_compute_and_the_status_says_so(self):
        best = "avx512" if HAS_AVX512 else "avx2" if HAS_AVX2 else "baseline"
        self.assertEqual(told(""), best)

    def test_lossd_kernels_forces_those_that_it_names(self):
        for name, is_there in (
            ("reference", True), ("baseline", True), ("avx2", HAS_AVX2), ("avx512", HAS_AVX512)):
            if is_there:
                with self.subTest(name):
                    self.assertEqual(told(name), name)


if __name__ == "__main__":
    unittest.main()

"""The programs of examples/grpc, each built as its first lines say, from an empty folder, and where its language's packages
are installed. All print the same."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

from support import ROOT, Daemon, ended, of_tcp

EXAMPLES = ROOT / "examples" / "grpc"
# The loss is torch's: mean of log(1 + e^-1 + e^-2) and that plus 1.
EXPECTED = """loss 0.907606
gradient -0.167380 0.122364 0.045015 0.045015 -0.377636 0.332620
of 2 rows 0.907606
NOT_FOUND no function named `cross_entropi`; did you mean `cross_entropy`?
"""


class Examples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon(tcp=True)

    @classmethod
    def tearDownClass(cls):
        ended(cls.daemon)

    def setUp(self):
        place = tempfile.TemporaryDirectory(prefix="lossd-example-")
        self.addCleanup(place.cleanup)
        self.folder = pathlib.Path(place.name)

    def needs(self, *programs):
        for program in programs:
            if not shutil.which(program):
                self.skipTest(f"{program} is not installed")

    def run_in_folder(self, *command, **environment):
        result = subprocess.run([str(part) for part in command], cwd=self.folder, capture_output=True, text=True,
                                timeout=240, env={**os.environ, **environment})
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        return result.stdout

    def prints(self, *command, unix="unix:", **environment):
        """The same by TCP and by the Unix socket."""
        for address in (of_tcp(self.daemon), unix + self.daemon.path):
            self.assertEqual(self.run_in_folder(*command, address, **environment), EXPECTED, address)

    def test_python(self):
        self.run_in_folder(sys.executable, "-m", "grpc_tools.protoc", "-I", ROOT / "proto", "--python_out=.",
                           "--grpc_python_out=.", "lossd.proto")
        self.prints(sys.executable, EXAMPLES / "evaluate.py", PYTHONPATH=str(self.folder))

    def test_cpp(self):
        self.needs("g++", "protoc", "grpc_cpp_plugin", "pkg-config")
        if subprocess.run(["pkg-config", "--exists", "grpc++"], check=False).returncode != 0:
            self.skipTest("libgrpc++-dev is not installed")
        self.run_in_folder("protoc", "-I", ROOT / "proto", "--cpp_out=.", "--grpc_out=.",
                           f"--plugin=protoc-gen-grpc={shutil.which('grpc_cpp_plugin')}", "lossd.proto")
        flags = self.run_in_folder("pkg-config", "--cflags", "--libs", "grpc++", "protobuf").split()
        self.run_in_folder("g++", "-std=c++17", "-I", ".", "-o", "evaluate", EXAMPLES / "evaluate.cc", "lossd.pb.cc",
                           "lossd.grpc.pb.cc", *flags)
        self.prints(self.folder / "evaluate")

    def test_go(self):
        self.needs("go", "protoc", "protoc-gen-go", "protoc-gen-go-grpc")
        if not pathlib.Path("/usr/share/gocode/src/google.golang.org/grpc").exists():
            self.skipTest("golang-google-grpc-dev is not installed")
        (self.folder / "src" / "lossd" / "pb").mkdir(parents=True)
        self.run_in_folder("protoc", "-I", ROOT / "proto", "--go_out=src/lossd/pb",
                           "--go_opt=paths=source_relative,import_path=lossd/pb", "--go-grpc_out=src/lossd/pb",
                           "--go-grpc_opt=paths=source_relative,Mlossd.proto=lossd/pb", "lossd.proto")
        path = {"GO111MODULE": "off", "GOPATH": f"{self.folder}:/usr/share/gocode",
                "GOCACHE": os.environ.get("GOCACHE", str(self.folder / "cache"))}
        self.run_in_folder("go", "build", "-o", "evaluate", EXAMPLES / "evaluate.go", **path)
        self.prints(self.folder / "evaluate", unix="unix://")

    def test_node(self):
        self.needs("node")
        self.prints("node", EXAMPLES / "evaluate.mjs")

    def test_ruby(self):
        self.needs("ruby", "protoc", "grpc_ruby_plugin")
        if subprocess.run(["ruby", "-e", "require 'grpc'"], capture_output=True, check=False).returncode != 0:
            self.skipTest("ruby-grpc is not installed")
        self.run_in_folder("protoc", "-I", ROOT / "proto", "--ruby_out=.", "--grpc_out=.",
                           f"--plugin=protoc-gen-grpc={shutil.which('grpc_ruby_plugin')}", "lossd.proto")
        self.prints("ruby", "-I", ".", EXAMPLES / "evaluate.rb")


if __name__ == "__main__":
    unittest.main()

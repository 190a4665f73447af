"""The programs of examples/grpc, each built as its first lines say, from an empty folder, and where its language's packages
are installed. All print the same."""

import pathlib
import shutil
import subprocess
import sys
import unittest

from programs import Programs
from support import ROOT, Daemon, ended, of_tcp

EXAMPLES = ROOT / "examples" / "grpc"
# The loss is torch's: mean of log(1 + e^-1 + e^-2) and that plus 1.
EXPECTED = """loss 0.907606
gradient -0.167380 0.122364 0.045015 0.045015 -0.377636 0.332620
of 2 rows 0.907606
NOT_FOUND no function named `cross_entropi`; did you mean `cross_entropy`?
"""


class Examples(Programs):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon(tcp=True)

    @classmethod
    def tearDownClass(cls):
        ended(cls.daemon)

    def prints(self, *command, unix="unix:", **environment):
        """The same by TCP and by the Unix socket."""
        for address in (of_tcp(self.daemon), unix + self.daemon.path):
            self.assertEqual(self.run_in_folder(*command, address, **environment), EXPECTED, address)

    def test_python(self):
        self.run_in_folder(sys.executable, "-m", "grpc_tools.protoc", "-I", ROOT / "proto", "--python_out=.",
                           "--grpc_python_out=.", "lossd.proto")
        self.prints(sys.executable, EXAMPLES / "evaluate.py", PYTHONPATH=str(self.folder))

    def test_cpp(self):
        self.prints(self.build_cpp(EXAMPLES / "evaluate.cc"))

    def test_go(self):
        self.prints(self.build_go(EXAMPLES / "evaluate.go"), unix="unix://")

    def test_java(self):
        """By TCP alone, as its first lines say."""
        self.needs("javac", "protoc", "grpc_java_plugin")
        jars = pathlib.Path("/usr/share/java")
        for jar, package in (("grpc-netty", "libgrpc-java"), ("netty-codec-http2", "libnetty-java"),
                             ("protobuf", "libprotobuf-java"), ("perfmark-api", "libperfmark-java")):
            if not (jars / f"{jar}.jar").exists():
                self.skipTest(f"{package} is not installed")
        self.run_in_folder("protoc", "-I", ROOT / "proto", "--java_out=.", "--grpc_out=.",
                           f"--plugin=protoc-gen-grpc={shutil.which('grpc_java_plugin')}", "lossd.proto")
        sources = sorted((self.folder / "lossd" / "v1").glob("*.java"))
        self.run_in_folder("javac", "-cp", f"{jars}/*", "-d", ".", EXAMPLES / "Evaluate.java", *sources)
        self.assertEqual(self.run_in_folder("java", "-cp", f".:{jars}/*", "Evaluate", of_tcp(self.daemon)), EXPECTED)

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

"""Clients of other languages: built from their sources with what is installed, run in a folder of their own."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

from support import ROOT


class Programs(unittest.TestCase):
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

    def build_cpp(self, source, *protos):
        """The program; stubs of lossd.proto and of `protos` are made for it."""
        self.needs("g++", "protoc", "grpc_cpp_plugin", "pkg-config")
        if subprocess.run(["pkg-config", "--exists", "grpc++"], check=False).returncode != 0:
            self.skipTest("libgrpc++-dev is not installed")
        protos = ["lossd.proto", *protos]
        self.run_in_folder("protoc", "-I", ROOT / "proto", "--cpp_out=.", "--grpc_out=.",
                           f"--plugin=protoc-gen-grpc={shutil.which('grpc_cpp_plugin')}", *protos)
        made = [proto.replace(".proto", end) for proto in protos for end in (".pb.cc", ".grpc.pb.cc")]
        flags = self.run_in_folder("pkg-config", "--cflags", "--libs", "grpc++", "protobuf").split()
        self.run_in_folder("g++", "-std=c++17", "-I", ".", "-o", "program", source, *made, *flags)
        return self.folder / "program"

    def build_go(self, source):
        self.needs("go", "protoc", "protoc-gen-go", "protoc-gen-go-grpc")
        if not pathlib.Path("/usr/share/gocode/src/google.golang.org/grpc").exists():
            self.skipTest("golang-google-grpc-dev is not installed")
        (self.folder / "src" / "lossd" / "pb").mkdir(parents=True)
        self.run_in_folder("protoc", "-I", ROOT / "proto", "--go_out=src/lossd/pb",
                           "--go_opt=paths=source_relative,import_path=lossd/pb", "--go-grpc_out=src/lossd/pb",
                           "--go-grpc_opt=paths=source_relative,Mlossd.proto=lossd/pb", "lossd.proto")
        path = {"GO111MODULE": "off", "GOPATH": f"{self.folder}:/usr/share/gocode",
                "GOCACHE": os.environ.get("GOCACHE", str(self.folder / "cache"))}
        self.run_in_folder("go", "build", "-o", "program", source, **path)
        return self.folder / "program"

"""The package itself: types, syntax, what a wheel has, what it needs."""

import ast
import os
import shutil
import subprocess
import sys
import venv

import pytest

import lossd
import lossd.testing
from conftest import ROOT

SOURCE = ROOT / "clients" / "python"
FILES = sorted((SOURCE / "src" / "lossd").glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_syntax_is_python_3_9s(file):
    ast.parse(file.read_text(), feature_version=(3, 9))


def test_the_types_are_right():
    pytest.importorskip("mypy")
    # Where torch is not installed, what derives from its modules is Any.
    options = [] if sys.modules.get("torch") or shutil.which("torchrun") else ["--exclude", r"torch\.py|_autograd\.py|_batched\.py|_tensors\.py|_elements\.py|_apply\.py|_rows\.py|_classes\.py"]
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", "/dev/null", *options,
         "--ignore-missing-imports", "lossd"],
        cwd=SOURCE / "src", capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_schema_is_the_protos():
    if shutil.which("protoc-c") is None:
        pytest.skip("no protoc-c")
    made = subprocess.run([sys.executable, str(SOURCE / "make_schema.py"), "--print"], capture_output=True, text=True,
                          check=True).stdout
    assert made == (SOURCE / "src" / "lossd" / "_schema.py").read_text(), "make proto"


def test_everything_that_is_public_is_documented():
    for name in lossd.__all__:
        assert getattr(lossd, name).__doc__, name
    for kind in (lossd.Client, lossd.AsyncClient, lossd.Stream, lossd.AsyncStream, lossd.Pending):
        for name in vars(kind):
            if not name.startswith("_"):
                assert vars(kind)[name].__doc__, f"{kind.__name__}.{name}"


PROGRAM = """
import sys, importlib.metadata, pathlib
import numpy as np, lossd
assert "site-packages" in lossd.__file__, lossd.__file__
assert (pathlib.Path(lossd.__file__).parent / "py.typed").exists()
assert importlib.metadata.version("lossd") == lossd.__version__
needs = [item.split(";")[0] for item in importlib.metadata.requires("lossd") if "extra" not in item]
assert sorted(item.split(">")[0] for item in needs) == ["numpy", "protobuf"], needs
with lossd.connect(sys.argv[1]) as client:
    print(client.sigmoid(np.zeros(2, np.float32)).tolist())
"""


def test_an_sdist_becomes_a_wheel_that_works_in_a_clean_environment(tmp_path, address):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run([sys.executable, "-c", "import setuptools.build_meta, sys; setuptools.build_meta.build_sdist(sys.argv[1])",
                    tmp_path], check=True, env=clean, cwd=SOURCE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (sources,) = tmp_path.glob("*.tar.gz")
    # Without the source tree around it.
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, sources], check=True,
                   env=clean)
    (wheel,) = tmp_path.glob("*.whl")
    build = "cp311-abi3" if sys.version_info >= (3, 11) else f"cp3{sys.version_info[1]}-cp3{sys.version_info[1]}"
    assert wheel.name.startswith(f"lossd-{lossd.__version__}-{build}-"), wheel.name
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", wheel], check=True, env=clean)
    result = subprocess.run([python, "-c", PROGRAM, address], capture_output=True, text=True, cwd=tmp_path,
                            env={"PATH": "/usr/bin:/bin"})
    assert (result.returncode, result.stdout) == (0, "[0.5, 0.5]\n"), result.stderr

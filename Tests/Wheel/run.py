"""Installs the wheel into an empty environment and uses it there: without the source tree, Swift or a network.

    run.py FOLDER    the folder has one wheel of lossd; numpy and protobuf are fetched before, with a network
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import venv

ROOT = pathlib.Path(__file__).resolve().parents[2]

CHECKS = """
import importlib.metadata, os, pathlib, subprocess, sys
import lossd
home = pathlib.Path(lossd.__file__).resolve().parent
assert str(home).startswith(sys.prefix), home
assert lossd._program.program() == str(home / "bin" / "lossd"), lossd._program.program()
assert not any("swift" in line.lower() for line in open("/proc/self/maps")), "Swift is not in this process"
commands = pathlib.Path(sys.prefix) / "bin"
said = subprocess.run([commands / "lossd", "--version"], capture_output=True, text=True, check=True).stdout
assert said.strip() == f"lossd {lossd.__version__}", said
with lossd.connect("private:") as client:
    client.ping()
    address = f"unix:{os.environ['XDG_RUNTIME_DIR']}/lossd/lossd-{lossd.__version__}.sock"
    ping = [commands / "lossctl", "--server", address, "ping"]
    said = subprocess.run(ping, capture_output=True, text=True, check=True)
    assert said.stdout.startswith(f"lossd/{lossd.__version__} at "), said
files = [str(file) for file in importlib.metadata.files("lossd")]
for name in ("LICENSE", "LGPL-2.1", "libseccomp2.copyright", "lossd.copyright"):
    assert any(file.endswith("licenses/" + name) for file in files), name
os.kill(int(lossd.connect(address).status().pid), 15)
print("checked")
"""


def main() -> None:
    (wheel,) = pathlib.Path(sys.argv[1]).resolve().glob("lossd-*.whl")
    (example,) = [block for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
                  if "private:" in block]
    # Without a network: in a network namespace of its own, where there may be one.
    isolated = ["unshare", "-rn"]
    if subprocess.run([*isolated, "true"], capture_output=True).returncode != 0:
        print("no namespaces here: the network stays, and pip is told not to use it")
        isolated = []
    with tempfile.TemporaryDirectory(prefix="lossd-wheel-") as name:
        folder = pathlib.Path(name)
        runtime = folder / "run"
        runtime.mkdir(0o700)
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "-d", folder / "needed", "numpy", "protobuf"],
                       check=True)
        venv.create(folder / "env", with_pip=True)
        python = folder / "env" / "bin" / "python"
        shutil.copy(wheel, folder)
        environment = {"PATH": "/usr/bin:/bin", "HOME": name, "XDG_RUNTIME_DIR": str(runtime)}

        def run(*command: str) -> str:
            result = subprocess.run([*isolated, *map(str, command)], cwd=folder, env=environment, text=True,
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
            if result.returncode != 0:
                sys.exit(f"{command[:4]}: status {result.returncode}\n{result.stdout}")
            return result.stdout

        run(python, "-m", "pip", "install", "-q", "--no-index", "--find-links", folder / "needed", folder / wheel.name)
        said = run(python, "-c", example)
        assert said.startswith("0.339") and "(2, 3)" in said and said.rstrip().endswith(" 20"), said
        said = run(python, "-c", CHECKS)
        assert said == "checked\n", said
    print("the wheel works in an empty environment")


if __name__ == "__main__":
    main()

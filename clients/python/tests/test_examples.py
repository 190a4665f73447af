"""The examples, in Python and in C, run and come to what they should."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from conftest import ROOT

EXAMPLES = ROOT / "examples"
TORCH = re.search(r'"loss": ([\d.]+), "right": (\d+)', (EXAMPLES / "train_digits.py").read_text())
#: In full: LOSSD_ROWS=10000000, `make examples`.
ROWS = int(os.environ.get("LOSSD_ROWS", 200_000))


def run(*command, address=None):
    environment = dict(os.environ)
    if address:
        environment["LOSSD_ADDRESS"] = address
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600,
                            env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.fixture(scope="session")
def compile(tmp_path_factory):
    """Compiles an example in C as its first comment says, with the library installed to a folder."""
    if shutil.which("gcc") is None or shutil.which("pkg-config") is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("c")
    run("make", "-s", "-C", ROOT / "clients" / "c", "install", f"PREFIX={folder}", f"BUILD={folder}/build")

    def compile(name):
        program = folder / name
        command = re.search(r"cc .*", (EXAMPLES / f"{name}.c").read_text())[0]
        command = command.replace(f"{name}.c -o {name}", f"{EXAMPLES}/{name}.c -o {program}")
        run("sh", "-c", f"PKG_CONFIG_PATH={folder}/lib/pkgconfig; export PKG_CONFIG_PATH; "
                        f"{command} -Werror -Wl,-rpath,{folder}/lib")
        return program

    return compile


def test_numpy_alone_trains_digits_to_torchs_accuracy(address):
    lines = run(sys.executable, EXAMPLES / "train_digits.py", address=address)
    assert lines[0] == f"loss {TORCH[1]}, {TORCH[2]} of 540 right"
    assert lines[1] == f"torch {TORCH[1]}, {TORCH[2]} of 540 right"


def test_c_trains_digits_to_torchs_accuracy(address, compile):
    lines = run(compile("train_digits"), EXAMPLES / "data", address=address)
    assert lines == [f"loss {TORCH[1]}, {TORCH[2]} of 540 right"]


def test_torch_itself_comes_to_that_accuracy():
    pytest.importorskip("torch")
    assert run(sys.executable, EXAMPLES / "train_digits_torch.py") == [f"loss {TORCH[1]}, {TORCH[2]} of 540 right"]


def test_torch_with_the_daemons_loss_comes_to_that_accuracy(address, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import train_digits_torch
    from digits import TRAINED, load
    import lossd.torch
    lossd.torch.use(address)
    images, classes = map(torch.from_numpy, load())
    logits = train_digits_torch.train(images, classes, lossd.torch.cross_entropy)(images[TRAINED:])
    assert int((logits.argmax(1) == classes[TRAINED:]).sum()) == int(TORCH[2])
    assert f"{lossd.torch.cross_entropy(logits, classes[TRAINED:]).item():.9f}" == TORCH[1]


def test_a_data_set_is_streamed_from_mapped_files_in_python_and_in_c(address, compile, tmp_path):
    def loss(line):
        return float(re.fullmatch(rf"loss ([\d.]+) of {ROWS} rows", line)[1])

    # In float64; the daemon sums in float64 what each row's exponentials come to in float32, whose error does not quite
    # average out: 2e-10 of it in 10 million rows. A float32 next to the loss is 5e-7 away.
    truth = pytest.approx(loss(run(sys.executable, EXAMPLES / "make_rows.py", "--rows", ROWS, tmp_path)[0]), rel=5e-10)
    files = tmp_path / "logits.npy", tmp_path / "labels.npy"
    for command in ([sys.executable, EXAMPLES / "evaluate_rows.py"], [compile("evaluate_rows")]):
        lines = run(*command, *files, address=address)
        assert loss(lines[0]) == truth
        rate, own = re.fullmatch(r"([\d,]+) rows/s, (\d+) MiB of memory beside the files", lines[1]).groups()
        assert int(own) < 100  # however many rows there are
        print(command[-1].name, lines[1])
    # Batches of another size, the last one shorter.
    lines = run(sys.executable, EXAMPLES / "evaluate_rows.py", *files, "--batch-size", 7777, address=address)
    assert loss(lines[0]) == truth


def test_the_c_example_says_what_is_wrong_with_a_file(address, compile, tmp_path):
    program = compile("evaluate_rows")
    (tmp_path / "short.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "other.npy").write_bytes(b"x" * 500)
    data = EXAMPLES / "data"
    for logits, labels, text in (
            ("/nonexistent.npy", data / "digits_labels.npy", "cannot be read"),
            (tmp_path / "short.npy", data / "digits_labels.npy", "cannot be read"),
            (tmp_path / "other.npy", data / "digits_labels.npy", "not a .npy file"),
            (data / "digits_logits_float64.npy", data / "digits_labels.npy", "expected 2 dimensions of type <f4"),
            (data / "digits_logits.npy", data / "digits_logits.npy", "expected 1 dimensions of type <i8")):
        result = subprocess.run([program, logits, labels], capture_output=True, text=True,
                                env={**os.environ, "LOSSD_ADDRESS": address})
        assert result.returncode == 1 and text in result.stderr, result.stderr

"""Writes the descriptors of proto/ as C, for server reflection: Sources/CLossdProto/descriptors.c, or the folder
named. Needs protoc-c, which the daemon needs, and no library."""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = ["lossd.proto", "grpc/health/v1/health.proto", "grpc/reflection/v1/reflection.proto",
         "grpc/reflection/v1alpha/reflection.proto"]


def fields(data):
    """The fields of a message that have lengths: numbers and bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            varint()
            continue
        assert tag & 7 == 2, "descriptors have numbers, texts and messages alone"
        length = varint()
        yield tag >> 3, data[at:at + length]
        at += length


def first(data, number):
    return next((value for field, value in fields(data) if field == number), b"")


def messages(data, scope):
    """A DescriptorProto's names: its own, its fields', its nested types'."""
    name = f"{scope}.{first(data, 1).decode()}"
    yield name
    for number, value in fields(data):
        if number in (2, 8):  # field, oneof_decl
            yield f"{name}.{first(value, 1).decode()}"
        elif number == 3:  # nested_type
            yield from messages(value, name)
        elif number == 4:  # enum_type
            yield from enums(value, name)


def enums(data, scope):
    yield f"{scope}.{first(data, 1).decode()}"
    for number, value in fields(data):
        if number == 2:  # a value's name stands beside its enum's
            yield f"{scope}.{first(value, 1).decode()}"


def symbols(data):
    """The full names that a FileDescriptorProto declares."""
    package = first(data, 2).decode()
    for number, value in fields(data):
        if number == 4:
            yield from messages(value, package)
        elif number == 5:
            yield from enums(value, package)
        elif number == 6:
            name = f"{package}.{first(value, 1).decode()}"
            yield name
            for field, method in fields(value):
                if field == 2:
                    yield f"{name}.{first(method, 1).decode()}"


def main():
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "Sources" / "CLossdProto"
    with tempfile.NamedTemporaryFile() as made:
        subprocess.run(["protoc-c", f"--proto_path={ROOT / 'proto'}", f"--descriptor_set_out={made.name}", *FILES],
                       check=True)
        files = [value for number, value in fields(Path(made.name).read_bytes()) if number == 1]
    text = ["// Made by scripts/make_descriptors.py from proto/: `make proto`.", '#include "lossd_descriptors.h"', ""]
    table = []
    for index, data in enumerate(files):
        rows = [", ".join(f"0x{byte:02X}" for byte in data[begin:begin + 18]) for begin in range(0, len(data), 18)]
        text += [f"static const unsigned char file_{index}[] = {{", *(f"  {row}," for row in rows), "};", ""]
    text.append("static const lossd_descriptor_file files[] = {")
    for index, data in enumerate(files):
        text.append(f'  {{"{first(data, 1).decode()}", file_{index}, sizeof file_{index}}},')
        table += [(symbol, index) for symbol in symbols(data)]
    text += ["};", f"const size_t lossd_descriptor_file_count = {len(files)};", ""]
    text.append("static const lossd_descriptor_symbol symbols[] = {")
    text += [f'  {{"{symbol}", {index}}},' for symbol, index in sorted(set(table))]
    text += ["};", f"const size_t lossd_descriptor_symbol_count = {len(set(table))};", "",
             "const lossd_descriptor_file *lossd_descriptor_file_at(size_t index) { return &files[index]; }", "",
             "const lossd_descriptor_symbol *lossd_descriptor_symbol_at(size_t index) { return &symbols[index]; }", ""]
    (out / "descriptors.c").write_text("\n".join(text))


if __name__ == "__main__":
    main()

"""The console blocks of a page as commands and what they are said to print."""

import re


def steps(text, prompts="$"):
    """(prompt, command, lines printed) of every command, in order; a command may go on behind a backslash."""
    found = []
    for line in "".join(re.findall(r"```console\n(.*?)```", text, re.S)).splitlines():
        if line[:1] in prompts and line[1:2] == " ":
            found.append((line[0], line[2:], []))
        elif found[-1][1].endswith("\\"):
            found[-1] = (found[-1][0], found[-1][1][:-1] + line.strip(), [])
        else:
            found[-1][2].append(line)
    return found


def pattern(lines):
    """What matches these lines: ... stands for anything, on a line of its own for any lines."""
    return re.compile("^" + "\n".join(
        ".*" if line == "..." else re.escape(line).replace(re.escape("..."), ".*") for line in lines) + "$", re.S)

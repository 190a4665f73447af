"""Tables and plots: DOCS/benchmarks/calls.json, calls-*.png, and the part of DOCS/benchmarks.md between its marks."""

import json

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

BEGIN, END = "<!-- calls: made by Benchmarks/service -->", "<!-- end of calls -->"
NAMES = {"lossd": "lossd", "echo": "bare echo", "gRPC": "Python gRPC + torch"}
COLOURS = {"lossd": "#1b6ca8", "echo": "#9a9a9a", "gRPC": "#d1603d"}
TRANSPORTS = {"unix": "Unix", "tcp": "TCP"}


def number(value):
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def comparison(rows, heads, first):
    with_grpc = any("gRPC" in row for row in rows)
    heads = heads + ["lossd /s", "p50 us", "p99 us", "p99.9 us", "echo /s", "p50 us", "to echo"] + (
        ["gRPC /s", "p50 us", "to gRPC"] if with_grpc else [])
    lines = []
    for row in rows:
        lossd, echo, grpc = row["lossd"], row["echo"], row.get("gRPC")
        cells = first(row) + [number(lossd[key]) for key in ("rate", "p50", "p99", "p999")] + [
            number(echo["rate"]), number(echo["p50"]), f"{100 * row['to_echo']:.0f} %"]
        if with_grpc and not grpc:
            cells += [""] * 3
        elif with_grpc:
            cells += [number(grpc["rate"]), number(grpc["p50"]), f"{row['to_grpc']:.1f}x"]
        lines.append(cells)
    return table(heads, lines)


def depth(row):
    return ("one by one" if row["depth"] == 1 else f"{row['depth']} at once") + (
        ", differing" if "differ" in row["call"] else "")


def text(result):
    machine = result["machine"]
    parts = [
        f"{machine['processor']}, {machine['processors']} processors, {machine['memory']}, Linux {machine['kernel']}; "
        f"{machine['lossd']}" + (
            f", torch {machine['torch']}, grpcio {machine['grpcio']}, Python {machine['python']}"
            if "torch" in machine else "")
        + f"; {result['rounds']} round{'s' if result['rounds'] > 1 else ''} of {result['seconds']:g} s, the servers in "
        f"turn, medians; the machine's load was {result['load_before']:.1f} before it began."]
    if "small" in result:
        parts += ["**Small calls**, cross_entropy of 1 x 10 on one connection:", comparison(
            result["small"], ["by", "calls"], lambda row: [TRANSPORTS[row["transport"]], depth(row)])]
    if "big" in result:
        parts += ["**Big calls**, cross_entropy of 256 x 50257 with gradient (51 MB each way), Unix socket:", comparison(
            result["big"], ["calls"], lambda row: [depth(row)])]
    if "batch" in result:
        parts += ["**Batch size**: cross_entropy of N x 10 with gradient, one call after the other, Unix socket:",
                  comparison(result["batch"], ["call"], lambda row: [row["call"].replace(" with gradient", "")])]
    if "connections" in result:
        parts += ["**Connections**, each with one call after the other, one loop:", table(
            ["connections", "calls /s", "p50 us", "p99 us", "p99.9 us", "daemon, processors"],
            [[str(row["connections"])] + [number(row[key]) for key in ("rate", "p50", "p99", "p999")] + [
                f"{row['server_processors']:.2f}"] for row in result["connections"]])]
    if "cores" in result:
        parts += ["**Processors**: daemon and client together on one processor, and on two with two workers:",
                  table(["calls", "one, /s", "two, /s", "ratio"], [
                      [row["call"], number(row["one"]["rate"]), number(row["two"]["rate"]), f"{row['ratio']:.2f}x"]
                      for row in result["cores"]])]
    if "idle" in result:
        parts.append(
            f"**Memory**: {result['idle']['fresh_mebibytes']:.1f} MiB resident when idle, "
            f"{result['idle']['after_small_calls_mebibytes']:.1f} MiB after some hundred thousand small calls.")
    return "\n\n".join(parts)


# ---- Plots

def bars(rows, labels, path, title):
    figure, axes = plt.subplots(figsize=(8, 4))
    names = [name for name in NAMES if name in rows[0]]
    for position, name in enumerate(names):
        places = [index + (position - (len(names) - 1) / 2) * 0.27 for index in range(len(rows))]
        values = [row[name]["rate"] for row in rows]
        axes.bar(places, values, 0.25, label=NAMES[name], color=COLOURS[name])
        for place, value in zip(places, values):
            axes.annotate(number(value), (place, value), ha="center", va="bottom", fontsize=7)
    axes.set_xticks(range(len(rows)), labels)
    axes.set_yscale("log")
    axes.set_ylabel("calls a second")
    finish(figure, axes, path, title)


def lines(series, path, title, x, y):
    figure, axes = plt.subplots(figsize=(8, 4))
    for label, colour, style, points in series:
        axes.plot(*zip(*points), style, label=label, color=colour)
    axes.set_xscale("log")
    axes.set_yscale("log")
    places = [place for place, _ in series[0][3]]
    axes.set_xticks(places, [f"{place:,}" for place in places])
    axes.minorticks_off()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(True, which="major", alpha=0.3)
    finish(figure, axes, path, title)


def finish(figure, axes, path, title):
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def plots(result, folder):
    made = []

    def plot(name, draw, *arguments):
        draw(*arguments[:1], folder / f"calls-{name}.png", *arguments[1:])
        made.append(f"calls-{name}.png")

    if "small" in result:
        rows = [row for row in result["small"] if "differ" not in row["call"]]
        bars(rows, [f"{TRANSPORTS[row['transport']]}, {depth(row)}" for row in rows], folder / "calls-small.png",
             "cross_entropy of 1 x 10, one connection")
        made.append("calls-small.png")
    if "batch" in result:
        rows = result["batch"]
        sizes = [int(row["call"].split(" ")[0]) for row in rows]
        plot("batch", lines, [
            (NAMES[name], COLOURS[name], "o-", [(size, row[name]["p50"]) for size, row in zip(sizes, rows)])
            for name in NAMES if name in rows[0]], "cross_entropy of N x 10 with gradient, one call after the other",
            "rows", "us a call, median")
    if "connections" in result:
        rows = result["connections"]
        plot("connections", lines, [
            (label, colour, style, [(row["connections"], row[key]) for row in rows])
            for label, colour, style, key in (
                ("calls a second", "#1b6ca8", "o-", "rate"), ("p50, us", "#5aa469", "s--", "p50"),
                ("p99, us", "#d1603d", "^--", "p99"))], "cross_entropy of 1 x 10, one call after the other on each",
            "connections", "calls a second; us")
    return made


def write(result, docs):
    folder = docs / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "calls.json").write_text(json.dumps(result, indent=1) + "\n")
    body = text(result) + "".join(f"\n\n![{name}](benchmarks/{name})" for name in plots(result, folder))
    page = docs / "benchmarks.md"
    old = page.read_text() if page.exists() else "# Benchmarks\n"
    if BEGIN not in old:
        old = f"{old.rstrip()}\n\n## Calls\n\n{BEGIN}\n{END}\n"
    before, rest = old.split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{body}\n{END}{rest.split(END)[1]}")

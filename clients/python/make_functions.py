"""Writes src/lossd/_functions.py, the methods of both clients, from the declarations of a daemon's functions, or prints
it (--print): `make_functions.py ../../.build/release/lossctl`. `make client-functions` does it at the top."""

import json
import pathlib
import subprocess
import sys
import textwrap

HERE = pathlib.Path(__file__).resolve().parent
COLUMNS = 120

# torch.nn.functional's parameters in its order, for those of its functions that have more than an input: they are
# positional here too. What lossd adds goes by name. tests/test_torch_methods.py compares them with torch.
ORDERS = {
    "softmax": "input dim dtype", "softmin": "input dim dtype", "log_softmax": "input dim dtype",
    "binary_cross_entropy": "input target weight reduction",
    "binary_cross_entropy_with_logits": "input target weight reduction pos_weight",
    "cross_entropy": "input target weight ignore_index reduction label_smoothing",
    "nll_loss": "input target weight ignore_index reduction",
    "multilabel_soft_margin_loss": "input target weight reduction",
    "celu": "input alpha", "elu": "input alpha", "gelu": "input approximate", "glu": "input dim",
    "hardshrink": "input lambd", "hardtanh": "input min_val max_val", "leaky_relu": "input negative_slope",
    "prelu": "input weight", "rrelu": "input lower upper", "softplus": "input beta threshold",
    "softshrink": "input lambd", "threshold": "input threshold value",
    "normalize": "input p dim eps", "cosine_similarity": "x1 x2 dim eps", "pairwise_distance": "x1 x2 p eps keepdim",
    "logsumexp": "input dim keepdim", "logit": "input eps", "xlogy": "input other", "xlog1py": "input other",
    "l1_loss": "input target reduction weight", "mse_loss": "input target reduction weight",
    "huber_loss": "input target reduction delta weight", "smooth_l1_loss": "input target reduction beta",
    "kl_div": "input target reduction log_target",
    "poisson_nll_loss": "input target log_input full eps reduction",
    "gaussian_nll_loss": "input target var full eps reduction", "soft_margin_loss": "input target reduction",
    "hinge_embedding_loss": "input target margin reduction",
    "margin_ranking_loss": "input1 input2 target margin reduction",
    "cosine_embedding_loss": "input1 input2 target margin reduction",
    "triplet_margin_loss": "anchor positive negative margin p eps swap reduction",
    "multi_margin_loss": "input target p margin weight reduction", "multilabel_margin_loss": "input target reduction",
    "ctc_loss": "log_probs targets input_lengths target_lengths blank reduction zero_infinity",
}
EXAMPLES = {
    "sigmoid": "client.sigmoid(np.zeros(2, np.float32))  # array([0.5, 0.5], dtype=float32)",
    "softmax": "client.softmax(np.zeros((2, 4), np.float32), dim=1)  # 0.25 everywhere",
    "cross_entropy": "loss, grad = client.cross_entropy(logits, labels, with_grad=True, timeout=5)",
    "nll_loss": "client.nll_loss(client.log_softmax(logits, dim=1), labels)",
    "binary_cross_entropy": "client.binary_cross_entropy([0.9, 0.2], [1.0, 0.0])  # 0.164",
    "triplet_margin_loss":
        'loss, (a, p, n) = client.triplet_margin_loss(x, y, z, with_grad=("anchor", "positive", "negative"))',
}
TYPES = {"bool": "bool", "int": "int", "float": "float", "string": "str"}
HEADER = '''"""The functions of the daemon as methods of both clients.

Made from the daemon's declarations by make_functions.py; not to be edited.
"""

from __future__ import annotations

from typing import Any, Literal, Optional, Tuple, Union, overload

from ._functions_base import Base, Many, One, Reduction, Two, documented, given


class Functions(Base[One, Two, Many]):
    """What both clients have. Functions of torch.nn.functional have its names and arguments in its order, save that `dim`
    defaults to -1 and that `inplace`, `size_average` and `reduce` are not there; what lossd adds goes by name.
    docs/functions.md has formulas and types."""
'''


class Parameter:
    def __init__(self, name, kind, default, help, is_input):
        self.name, self.kind, self.default, self.help, self.is_input = name, kind, default, help, is_input

    @property
    def is_left_out(self):
        """Whether None is for no value: an attribute without a default."""
        return self.default == "None"

    @property
    def text(self):
        return f"{self.name}: {self.kind}" + (f" = {self.default}" if self.default is not None else "")


def number(value, kind):
    """A default as Python writes it: JSON has no infinities, and writes 1.0 as 1."""
    if kind != "float":
        return repr(value)
    value = float(value)
    return repr(value) if abs(value) < float("inf") else f'float("{value}")'


def attribute(item):
    kind = TYPES[item["type"]]
    if item.get("role") == "reduction" and item["choices"] == ["none", "mean", "sum"]:
        kind = "Reduction"
    elif item["name"] == "dtype":
        kind = "Any"
    elif item.get("choices"):
        kind = f'Literal[{", ".join(json.dumps(choice) for choice in item["choices"])}]'
    default = None if item.get("required") else "None"
    if "default" in item:
        default = json.dumps(item["default"]) if item["type"] == "string" else number(item["default"], item["type"])
    elif default and kind != "Any":
        kind = f"Optional[{kind}]"
    return Parameter(item["name"], kind, default, item.get("help", ""), False)


def parameters(function):
    """(positional, by name)."""
    inputs = [
        Parameter(item["name"], "Any", None if item.get("required") else "None", item.get("help", ""), True)
        for item in function["inputs"] if not item["name"].startswith("grad.")]
    attributes = [attribute(item) for item in function["attributes"]]
    by_name = {item.name: item for item in inputs + attributes}
    first = ORDERS.get(function["name"], " ".join(item.name for item in inputs)).split()
    # Of two outputs of the same name, one is an attribute: there is no such function.
    assert len(by_name) == len(inputs) + len(attributes), function["name"]
    positional = [by_name.pop(name) for name in first]
    return positional, list(by_name.values())


def wrapped(head, items, tail):
    """head(items)tail over lines."""
    lines, line, indent = [], head, " " * len(head)
    for index, item in enumerate(items):
        last = index + 1 == len(items)
        piece = item + (tail if last else ",")
        if len(line) + len(piece) + 1 > COLUMNS and line.strip() != head.strip():
            lines.append(line.rstrip())
            line = indent
        line += piece + ("" if last else " ")
    return "\n".join([*lines, line.rstrip()])


def paragraph(text, indent, hanging=0):
    return "\n".join(textwrap.wrap(
        text, COLUMNS, initial_indent=" " * indent, subsequent_indent=" " * (indent + hanging),
        break_long_words=False, break_on_hyphens=False))


def signature(name, positional, named, grads, result):
    items = ["self", *(item.text for item in positional), "*", *(item.text for item in named)]
    items += [f"with_grad: {grads}", "grad: Any = None", "timeout: Optional[float] = None"]
    return wrapped(f"    def {name}(", items, f") -> {result}:")


def method(function):
    name = function["name"]
    positional, named = parameters(function)
    outputs = [item["name"] for item in function["outputs"]]
    result, = (item["name"] for item in function["outputs"] if item.get("default"))
    gradients = [item[len("grad."):] for item in outputs if item.startswith("grad.")]
    names = f'Literal[{", ".join(json.dumps(item) for item in gradients)}]'
    forms = [("Literal[False] = False", "One")]
    if len(gradients) > 1:
        forms += [(f"Union[Literal[True], {names}]", "Two"), (f"Tuple[{names}, ...]", "Many")]
    else:
        forms.append(("Literal[True]", "Two"))
    forms.append(("bool", "Union[One, Two]"))
    text = ""
    for grads, of in forms:
        text += f"\n    @overload\n{signature(name, positional, named, grads, of)} ...\n"
    every = "Union[bool, str, Tuple[str, ...]] = False" if len(gradients) > 1 else "bool = False"
    text += f"\n    @documented\n{signature(name, positional, named, every, 'Any')}\n"
    summary = function["summary"].rstrip(".")
    text += paragraph(f'"""{summary}.', 8) + "\n\n        Arguments:\n"
    for item in positional + named:
        help = item.help or "see docs/functions.md"
        shown = f" ({item.default} by default)" if item.default not in (None, "None") else ""
        text += paragraph(f"{item.name}: {help}{shown}.", 12, 4) + "\n"
    if len(gradients) > 1:
        text += "\n" + paragraph(
            f"Gradients: of {', '.join(gradients)}; `with_grad=True` gives that of {gradients[0]}.", 8) + "\n"
    text += f"\n        Returns the {result}.\n"
    text += f'\n        Example:\n            {EXAMPLES.get(name) or example(function, positional)}\n        """\n'
    items = [f'"{name}"', f'"{result}"', dictionary(positional + named, True), dictionary(positional + named, False),
             json.dumps(gradients[0]), "with_grad", "grad", "timeout"]
    return text + wrapped("        return self._evaluate(", items, ")") + "\n"


def example(function, positional):
    arguments = ", ".join(item.name if item.is_input else f"{item.name}={1 if item.name == 'dim' else 0.5}"
                          for item in positional if item.default is None)
    if function["kind"] == "loss":
        return f'loss, grad = client.{function["name"]}({arguments}, with_grad=True)'
    return f'output = client.{function["name"]}({arguments})'


def dictionary(items, is_input):
    items = [item for item in items if item.is_input == is_input]
    always = [item for item in items if is_input or not item.is_left_out]
    entries = [f'"{item.name}": {item.name}' for item in always]
    entries += [f"**given({item.name}={item.name})" for item in items if item not in always]
    return "{" + ", ".join(entries) + "}"


def main():
    arguments = [item for item in sys.argv[1:] if item != "--print"]
    functions = json.loads(subprocess.run(
        [*arguments, "functions", "--embedded", "--json"], check=True, capture_output=True, text=True).stdout)
    text = HEADER + "".join(method(item) for item in sorted(functions, key=lambda item: item["name"]))
    if "--print" in sys.argv:
        print(text, end="")
    else:
        (HERE / "src" / "lossd" / "_functions.py").write_text(text)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Makes examples/data: what real classifiers say about real data, and torch's losses of it.

Trains three classifiers on data sets that scikit-learn ships and writes their outputs for the
held-out test split as .npy files, beside the small worked examples of the README; then
torch_values.json, one row for each call: the function, its input files, its attributes, and what
torch computes in the files' own type and in float64.

    pip install "torch==2.13.0+cpu" --extra-index-url https://download.pytorch.org/whl/cpu
    pip install scikit-learn==1.9.1 numpy==2.4.6
    python examples/make_data.py                # train, write everything
    python examples/make_data.py --values-only  # torch_values.json from the .npy files as they are

Training depends on the processor in the last digits, so a second run may write other logits; the
committed files are what the tests and `scripts/demo.sh` use.
"""

import argparse
import json
import math
import pathlib
import platform

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

DATA = pathlib.Path(__file__).parent / "data"
BFLOAT16 = np.dtype("V2")  # as ml_dtypes saves bfloat16

# Attributes of a digit, for the multi-label set: even, prime, drawn with a loop, greater than 4.
LABELS = ("even", "prime", "has a loop", "greater than 4")
EVEN, PRIME, LOOP = {0, 2, 4, 6, 8}, {2, 3, 5, 7}, {0, 6, 8, 9}


def digit_labels(digits):
    rows = [[d in EVEN, d in PRIME, d in LOOP, d > 4] for d in digits.tolist()]
    return np.array(rows, np.float32)


def save(name, array):
    if isinstance(array, torch.Tensor) and array.dtype == torch.bfloat16:
        array = array.view(torch.int16).numpy().view(BFLOAT16)
    elif isinstance(array, torch.Tensor):
        array = array.numpy()
    np.save(DATA / f"{name}.npy", np.ascontiguousarray(array).reshape(array.shape))


def load(file):
    array = np.load(DATA / file)
    if array.dtype == BFLOAT16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


@torch.enable_grad()
def train(features, targets, outputs, loss, epochs=60):
    """A network with one hidden layer of 32, by Adam."""
    torch.manual_seed(20)
    model = torch.nn.Sequential(
        torch.nn.Linear(features.shape[1], 32), torch.nn.ReLU(), torch.nn.Linear(32, outputs))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(epochs):
        for rows in torch.randperm(len(features)).split(64):
            optimizer.zero_grad()
            loss(model(features[rows]), targets[rows]).backward()
            optimizer.step()
    return model.eval()


def make_digits():
    images, digits = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    split = train_test_split(images, digits, test_size=0.3, random_state=7, stratify=digits)
    train_x, test_x, train_y, test_y = (torch.from_numpy(part) for part in split)
    model = train(train_x, train_y, 10, F.cross_entropy)
    logits = model(test_x)
    accuracy = (logits.argmax(1) == test_y).float().mean().item()
    print(f"digits: {len(test_y)} held-out rows, accuracy {accuracy:.3f}")
    save("digits_logits", logits)
    save("digits_labels", test_y)
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        save(f"digits_logits_{str(dtype)[6:]}", logits.to(dtype))
    save("digits_log_probabilities", F.log_softmax(logits, 1))
    # Rare classes weigh more, as scikit-learn's class_weight="balanced" has it.
    counts = torch.bincount(train_y, minlength=10)
    save("digits_class_weight", (len(train_y) / (10 * counts)).to(torch.float32))
    # A quarter of the rows without a label, torch's default -100.
    partial = test_y.clone()
    partial[::4] = -100
    save("digits_labels_partial", partial)
    # Targets that are probabilities: the label, softened by a colder model's opinion.
    save("digits_label_probabilities",
         0.8 * F.one_hot(test_y, 10).float() + 0.2 * F.softmax(logits / 4, 1))

    attributes = torch.from_numpy(digit_labels(train_y)), torch.from_numpy(digit_labels(test_y))
    model = train(train_x, attributes[0], 4, F.multilabel_soft_margin_loss)
    logits = model(test_x)
    accuracy = ((logits > 0) == (attributes[1] > 0.5)).float().mean(0)
    print("digit attributes:", {k: round(v, 3) for k, v in zip(LABELS, accuracy.tolist())})
    save("attributes_logits", logits)
    save("attributes_targets", attributes[1])
    positives = attributes[0].mean(0)
    save("attributes_pos_weight", (1 - positives) / positives)
    save("attributes_weight", torch.tensor([1, 2, 0.5, 1]))


def make_cancer():
    features, benign = load_breast_cancer(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        features, benign, test_size=0.3, random_state=7, stratify=benign)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(train_x, train_y)
    logits = torch.from_numpy(model.decision_function(test_x)).to(torch.float32)
    print(f"breast cancer: {len(test_y)} held-out rows, accuracy {model.score(test_x, test_y):.3f}")
    save("cancer_logits", logits)
    save("cancer_probabilities", torch.sigmoid(logits))
    save("cancer_targets", test_y.astype(np.float32))
    save("cancer_pos_weight", np.array([(train_y == 0).sum() / (train_y == 1).sum()], np.float32))
    # A missed tumour (target 0) counts three times.
    save("cancer_weight", np.where(test_y == 0, 3, 1).astype(np.float32))


def make_worked_examples():
    f32 = torch.float32
    save("worked_sigmoid_input", torch.tensor([2, -1, 0.5]))
    save("worked_softmax_input", torch.tensor([2, 1, 0.1]))
    save("worked_bce_input", torch.sigmoid(torch.tensor([0.7, 0.2, 0.9])))
    save("worked_bce_logits", torch.tensor([0.5, -1, 2]))
    save("worked_bce_target", torch.tensor([1, 0, 1], dtype=f32))
    save("worked_ce_input", torch.tensor([[1, 2, 3], [1, 2, 0], [0, 2, 1]], dtype=f32))
    save("worked_nll_input", F.log_softmax(
        torch.tensor([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0.3, 0.5, 0.2]]), 1))
    save("worked_classes", torch.tensor([2, 0, 1]))
    save("worked_multilabel_input", torch.tensor([[0.8, -1.2, 0.3], [-0.5, 2, -1]]))
    save("worked_multilabel_target", torch.tensor([[1, 0, 1], [0, 1, 0]], dtype=f32))


def calls():
    """(title, function, inputs, attributes): every row of torch_values.json."""

    def call(title, function, attributes=None, **inputs):
        order = ("input", "target", "weight", "pos_weight")
        files = {k: f"{inputs[k]}.npy" for k in order if k in inputs}
        return title, function, files, attributes or {}

    worked = {"target": "worked_classes"}
    yield call("worked example", "sigmoid", input="worked_sigmoid_input")
    yield call("worked example", "softmax", {"dim": 0}, input="worked_softmax_input")
    yield call("worked example", "log_softmax", {"dim": 0}, input="worked_softmax_input")
    yield call("worked example", "binary_cross_entropy",
               input="worked_bce_input", target="worked_bce_target")
    yield call("worked example", "binary_cross_entropy_with_logits",
               input="worked_bce_logits", target="worked_bce_target")
    yield call("worked example", "cross_entropy", input="worked_ce_input", **worked)
    yield call("worked example", "nll_loss", input="worked_nll_input", **worked)
    yield call("worked example", "multilabel_soft_margin_loss",
               input="worked_multilabel_input", target="worked_multilabel_target")

    digits = {"input": "digits_logits", "target": "digits_labels"}
    weight = {"weight": "digits_class_weight"}
    for attributes in ({}, {"reduction": "sum"}, {"label_smoothing": 0.1}, {"ignore_index": 8}):
        yield call("digits", "cross_entropy", attributes, **digits)
    yield call("digits", "cross_entropy", **digits, **weight)
    yield call("digits", "cross_entropy", {"reduction": "sum"}, **digits, **weight)
    yield call("digits", "cross_entropy", {"label_smoothing": 0.1}, **digits, **weight)
    partial = {"input": "digits_logits", "target": "digits_labels_partial"}
    yield call("digits", "cross_entropy", **partial)
    yield call("digits", "cross_entropy", {"label_smoothing": 0.2}, **partial, **weight)
    yield call("digits", "cross_entropy", input="digits_logits",
               target="digits_label_probabilities")
    for dtype in ("float64", "float16", "bfloat16"):
        yield call("digits", "cross_entropy",
                   input=f"digits_logits_{dtype}", target="digits_labels")
    log = {"input": "digits_log_probabilities"}
    yield call("digits", "nll_loss", target="digits_labels", **log)
    yield call("digits", "nll_loss", {"reduction": "sum"}, target="digits_labels", **log, **weight)
    yield call("digits", "nll_loss", target="digits_labels_partial", **log, **weight)

    cancer = {"target": "cancer_targets"}
    for attributes in ({}, {"reduction": "sum"}):
        yield call("breast cancer", "binary_cross_entropy", attributes,
                   input="cancer_probabilities", **cancer)
        yield call("breast cancer", "binary_cross_entropy_with_logits", attributes,
                   input="cancer_logits", **cancer)
    yield call("breast cancer", "binary_cross_entropy",
               input="cancer_probabilities", weight="cancer_weight", **cancer)
    yield call("breast cancer", "binary_cross_entropy_with_logits",
               input="cancer_logits", pos_weight="cancer_pos_weight", **cancer)
    yield call("breast cancer", "binary_cross_entropy_with_logits", {"reduction": "sum"},
               input="cancer_logits", weight="cancer_weight", pos_weight="cancer_pos_weight",
               **cancer)

    labels = {"input": "attributes_logits", "target": "attributes_targets"}
    for attributes in ({}, {"reduction": "sum"}):
        yield call("digit attributes", "multilabel_soft_margin_loss", attributes, **labels)
    yield call("digit attributes", "multilabel_soft_margin_loss",
               weight="attributes_weight", **labels)
    yield call("digit attributes", "binary_cross_entropy_with_logits",
               pos_weight="attributes_pos_weight", **labels)


def number(value):
    if math.isnan(value):
        return "NaN"
    return value if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


def evaluate(function, inputs, attributes):
    return getattr(torch if function == "sigmoid" else F, function)(**inputs, **attributes)


def make_values():
    rows = []
    for title, function, files, attributes in calls():
        inputs = {name: load(file) for name, file in files.items()}
        result = evaluate(function, inputs, attributes)
        wide = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
        truth = evaluate(function, wide, attributes)
        rows.append({
            "title": title,
            "function": function,
            "inputs": files,
            "attributes": attributes,
            "output": "loss" if "loss" in function or "entropy" in function else "output",
            "data_type": str(result.dtype)[6:],
            "shape": list(result.shape),
            "torch": [number(x) for x in result.double().reshape(-1).tolist()],
            "torch_float64": [number(x) for x in truth.reshape(-1).tolist()],
        })
    head = {"torch": torch.__version__, "machine": platform.machine()}
    lines = ",\n".join(" " + json.dumps(row) for row in rows)
    text = json.dumps(head)[:-1] + f', "rows": [\n{lines}\n]}}\n'
    (DATA / "torch_values.json").write_text(text)
    print(f"{len(rows)} calls in torch_values.json")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--values-only", action="store_true",
                        help="keep the .npy files, write torch_values.json from them")
    arguments = parser.parse_args()
    DATA.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    if not arguments.values_only:
        make_digits()
        make_cancer()
        make_worked_examples()
    make_values()


if __name__ == "__main__":
    main()

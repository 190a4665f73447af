"""The cases that ONNX's own suite has of these functions."""

import numpy as np
import pytest

pytest.importorskip("onnx")
import onnx.backend.test.case.node as node  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

OPERATORS = ("Sigmoid", "Softmax", "LogSoftmax", "NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")


@pytest.fixture(scope="module")
def cases():
    """Name, node, inputs, outputs. Cases that ONNX has in a second form, of simpler operators, are one here."""
    found = []
    with np.errstate(all="ignore"):
        tests = node.collect_testcases()
    for test in tests:
        nodes = test.model.graph.node if test.model else []
        if len(nodes) == 1 and nodes[0].op_type in OPERATORS:
            for data in test.data_sets:
                found.append((test.name, nodes[0], *([numpy_helper.to_array(item) if isinstance(item, TensorProto)
                                                      else np.asarray(item) for item in side] for side in data)))
    return found


def evaluate(client, case, inputs, wants_log_probabilities):
    attributes = {item.name: helper.get_attribute_value(item) for item in case.attribute}
    if case.op_type == "Sigmoid":
        return [client.sigmoid(inputs[0])]
    if case.op_type in ("Softmax", "LogSoftmax"):
        function = client.softmax if case.op_type == "Softmax" else client.log_softmax
        return [function(inputs[0], dim=attributes.get("axis", -1))]
    options = {"reduction": attributes.get("reduction", b"mean").decode()}
    if len(inputs) > 2:
        options["weight"] = inputs[2]
    if "ignore_index" in attributes:
        options["ignore_index"] = attributes["ignore_index"]
    if case.op_type == "NegativeLogLikelihoodLoss":
        return [client.nll_loss(inputs[0], inputs[1], **options)]
    results = [client.cross_entropy(inputs[0], inputs[1], **options)]
    return results + [client.log_softmax(inputs[0], dim=1)] if wants_log_probabilities else results


def test_every_case(client, cases):
    assert {case.op_type for _, case, _, _ in cases} == set(OPERATORS)
    assert len(cases) > 60
    for name, case, inputs, expected in cases:
        results = evaluate(client, case, inputs, len(expected) > 1)
        for ours, theirs in zip(results, expected):
            assert np.shape(ours) == np.shape(theirs), name
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7, err_msg=name)

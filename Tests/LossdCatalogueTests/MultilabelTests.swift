import LossdCatalogue
import LossdEngine
import LossdPluginKit
import LossdTensor
import Testing

/// Expected values are torch 2.13's, in float64.
@Suite struct MultilabelTests {
  let evaluator: Evaluator
  let inputs = [
    "input": Tensor([1, -2, 0.5, -0.3, 2, 4] as [Double], shape: [2, 3]),
    "target": Tensor([1, 0.25], shape: [2, 1]), "weight": Tensor([0.5, 1, 2]),
  ]

  init() throws {
    let registry = Registry()
    try registry.add(cataloguePlugin())
    evaluator = Evaluator(registry)
  }

  private func check(_ actual: Tensor?, _ expected: [Double]) throws {
    let values = try #require(actual).doubles
    #expect(values.count == expected.count)
    for (actual, wanted) in zip(values, expected) { #expect(abs(actual - wanted) < 2e-15) }
  }

  @Test("losses a row, mean and sum with a target that broadcasts over the classes")
  func reductions() throws {
    for (reduction, expected) in [
      ("none", [1.0772376077207657, 2.659301829704285]), ("mean", [1.8682697187125252]),
      ("sum", [3.7365394374250505]),
    ] {
      let result = try evaluator.evaluate(
        "multilabel_soft_margin_loss", inputs: inputs, attributes: ["reduction": .string(reduction)]
      )
      try check(result["loss"], expected)
    }
  }

  @Test("the gradient of a target that broadcasts is the sum over its repetitions")
  func gradients() throws {
    let result = try evaluator.evaluate(
      "multilabel_soft_margin_loss", inputs: inputs, outputs: ["grad.input", "grad.target"])
    try check(
      result["grad.input"],
      [
        -0.022411785114166256, -0.14679951299631372, -0.1258468895993818, 0.014629790265695088,
        0.10513284632964708, 0.24400459667930283,
      ])
    try check(result["grad.target"], [0.08333333333333343, -1.6416666666666666])
  }

  @Test("shapes that do not broadcast are refused by name")
  func refusals() {
    #expect {
      try evaluator.evaluate(
        "multilabel_soft_margin_loss",
        inputs: ["input": Tensor([1, 2, 3.0]), "target": Tensor([1, 0.0])])
    } throws: {
      ($0 as? StatusError)?.message
        == "multilabel_soft_margin_loss: target is (2,), which does not broadcast with input (3,)"
    }
  }
}

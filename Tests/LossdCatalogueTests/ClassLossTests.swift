import LossdCatalogue
import LossdEngine
import LossdPluginKit
import LossdTensor
import Testing

/// Expected values are torch 2.13's, in float64.
@Suite struct ClassLossTests {
  let evaluator: Evaluator
  let logits = Tensor([1, 2, 3, 1, 2, 0, 0, 2, 1] as [Double], shape: [3, 3])
  let target = Tensor([2, 0, 1] as [Int64])
  let weight = Tensor([0.5, 1, 2])

  init() throws {
    let registry = Registry()
    try registry.add(cataloguePlugin())
    evaluator = Evaluator(registry)
  }

  @Test("cross_entropy of the lesson, weighted and smoothed, with its gradient")
  func crossEntropy() throws {
    let plain = try evaluator.evaluate(
      "cross_entropy", inputs: ["input": logits, "target": target])
    #expect(abs((plain["loss"]?.scalar ?? 0) - 0.7409392977777137) < 1e-15)
    let result = try evaluator.evaluate(
      "cross_entropy", inputs: ["input": logits, "target": target, "weight": weight],
      attributes: ["label_smoothing": .float(0.1)], outputs: ["loss", "grad.input"])
    #expect(abs((result["loss"]?.scalar ?? 0) - 0.6266535834919995) < 1e-15)
    let expected = [
      0.04454055197425596, 0.12449416272048444, -0.16903471469474052, -0.09371062849588993,
      0.09818186903020924, -0.004471240534319356, 0.02138983315901527, -0.07343000808445657,
      0.052040174925441225,
    ]
    let gradient = try #require(result["grad.input"]).doubles
    for (actual, wanted) in zip(gradient, expected) { #expect(abs(actual - wanted) < 1e-15) }
  }

  @Test("smoothing over no classes is 0 / 0: NaN, of ignored targets and of none at all")
  func smoothedOverNoClasses() throws {
    for rows in [0, 3] {
      let inputs = [
        "input": Tensor([] as [Double], shape: [rows, 0]),
        "target": Tensor(Array(repeating: -100 as Int64, count: rows)),
      ]
      for (smoothing, isVoid) in [(0.0, false), (0.1, true), (1, true)] {
        func loss(_ reduction: String) throws -> [Double] {
          let results = try evaluator.evaluate(
            "cross_entropy", inputs: inputs,
            attributes: [
              "reduction": .string(reduction), "label_smoothing": .float(smoothing),
            ], outputs: ["loss", "grad.input"])
          #expect(results["grad.input"]?.shape == [rows, 0])
          return try #require(results["loss"]).doubles
        }
        #expect(try loss("mean")[0].isNaN)
        #expect(try loss("sum")[0].isNaN == isVoid)
        let each = try loss("none")
        #expect(each.count == rows && each.allSatisfy { $0.isNaN == isVoid })
      }
    }
  }

  @Test("ignored rows do not count, not even in the denominator; all ignored is NaN")
  func ignored() throws {
    let result = try evaluator.evaluate(
      "cross_entropy",
      inputs: ["input": logits, "target": Tensor([2, 1, 1] as [Int32]), "weight": weight],
      attributes: ["label_smoothing": .float(0.1), "ignore_index": .int(1)])
    #expect(abs((result["loss"]?.scalar ?? 0) - 0.42395571592586456) < 1e-15)
    let none = try evaluator.evaluate(
      "cross_entropy",
      inputs: ["input": logits, "target": Tensor([-100, -100, -100] as [Int64])],
      outputs: ["loss", "grad.input"])
    #expect(none["loss"]?.scalar?.isNaN == true)
    #expect(none["grad.input"]?.doubles == Array(repeating: 0, count: 9))
  }

  @Test("nll_loss of log_softmax is the lesson's, and a K-dimensional call agrees with its rows")
  func nll() throws {
    let scores = Tensor([0.1, 0.2, 0.7, 0.8, 0.1, 0.1, 0.3, 0.5, 0.2], shape: [3, 3])
    let logs = try #require(
      evaluator.evaluate("log_softmax", inputs: ["input": scores])["output"])
    let loss = try evaluator.evaluate("nll_loss", inputs: ["input": logs, "target": target])
    #expect(abs((loss["loss"]?.scalar ?? 0) - 0.7991690835727671) < 1e-15)
    // (1, C, 3): the transpose of the rows above.
    let flat = logits.doubles
    let columns = Tensor((0..<9).map { flat[$0 % 3 * 3 + $0 / 3] }, shape: [1, 3, 3])
    let dimensional = try evaluator.evaluate(
      "cross_entropy",
      inputs: ["input": columns, "target": Tensor([2, 0, 1] as [Int64], shape: [1, 3])])
    #expect(abs((dimensional["loss"]?.scalar ?? 0) - 0.7409392977777137) < 1e-15)
  }

  @Test("a target outside the classes is refused by its place")
  func outside() {
    #expect {
      try evaluator.evaluate(
        "cross_entropy", inputs: ["input": logits, "target": Tensor([2, 17, 1] as [Int64])])
    } throws: {
      ($0 as? StatusError)?.message == "cross_entropy: target[1] is 17, outside [0, 3)"
    }
  }

  @Test("one-hot probabilities give the loss of their indices, over rows and not over weights")
  func probabilities() throws {
    let probabilities = Tensor([0, 0, 1, 1, 0, 0, 0, 1, 0] as [Double], shape: [3, 3])
    let plain = try evaluator.evaluate(
      "cross_entropy", inputs: ["input": logits, "target": probabilities])
    #expect(abs((plain["loss"]?.scalar ?? 0) - 0.7409392977777137) < 1e-15)
    let weighted = ["input": logits, "target": probabilities, "weight": weight]
    let mean = try evaluator.evaluate("cross_entropy", inputs: weighted)
    let sum = try evaluator.evaluate(
      "cross_entropy", inputs: weighted, attributes: ["reduction": .string("sum")])
    #expect(abs((mean["loss"]?.scalar ?? 0) - (sum["loss"]?.scalar ?? 1) / 3) < 1e-15)
  }

  @Test("a probability of 0 at a logit of -inf is NaN, and its gradients are torch's")
  func zeroProbability() throws {
    let result = try evaluator.evaluate(
      "cross_entropy",
      inputs: ["input": Tensor([-Double.infinity, 1, 2]), "target": Tensor([0, 0.5, 0.5])],
      outputs: ["loss", "grad.input", "grad.target"])
    #expect(result["loss"]?.scalar?.isNaN == true)
    let gradient = try #require(result["grad.input"]).doubles
    for (actual, wanted) in zip(gradient, [0, -0.2310585786300049, 0.2310585786300049]) {
      #expect(abs(actual - wanted) < 1e-15)
    }
    let ofTarget = try #require(result["grad.target"]).doubles
    #expect(ofTarget[0] == .infinity)
    #expect(abs(ofTarget[1] - 1.3132616875182228) < 1e-15)
  }
}

import LossdCatalogue
import LossdEngine
import LossdPluginKit
import LossdTensor
import Testing

@Suite struct WorkedExampleTests {
  let evaluator: Evaluator

  init() throws {
    let registry = Registry()
    try registry.add(cataloguePlugin())
    evaluator = Evaluator(registry)
  }

  private func call(
    _ name: String, _ inputs: [String: Tensor], _ attributes: [String: AttributeValue] = [:],
    _ output: String
  ) throws -> [Double] {
    let results = try evaluator.evaluate(
      name, inputs: inputs, attributes: attributes, outputs: [output])
    return try #require(results[output]).doubles
  }

  private func close(_ actual: [Double], _ expected: [Double], _ tolerance: Double) -> Bool {
    actual.count == expected.count
      && zip(actual, expected).allSatisfy { abs($0 - $1) <= tolerance }
  }

  @Test("the lesson's activations are torch's")
  func activations() throws {
    let sigmoid = try call("sigmoid", ["input": Tensor([2, -1, 0.5] as [Float])], [:], "output")
    #expect(close(sigmoid, [0.880797, 0.268941, 0.622459], 1e-6))
    let input = ["input": Tensor([2, 1, 0.1] as [Float])]
    #expect(
      close(try call("softmax", input, [:], "output"), [0.659001, 0.242433, 0.098566], 1e-6))
    #expect(
      close(try call("log_softmax", input, [:], "output"), [-0.417030, -1.417030, -2.317030], 1e-6))
  }

  @Test("binary cross entropy with logits of the lesson is 0.3048, with and without the sigmoid")
  func binary() throws {
    let target = Tensor([1, 0, 1])
    let inputs = ["input": Tensor([0.5, -1, 2]), "target": target]
    let fused = try call("binary_cross_entropy_with_logits", inputs, [:], "loss")[0]
    #expect(abs(fused - 0.3048) < 5e-5)
    let probabilities = try call("sigmoid", ["input": Tensor([0.5, -1, 2])], [:], "output")
    let plain = try call(
      "binary_cross_entropy", ["input": Tensor(probabilities), "target": target], [:], "loss")[0]
    #expect(abs(fused - plain) < 1e-15)
  }

  @Test(
    "gradients agree with central differences",
    arguments: ["sigmoid", "softmax", "log_softmax", "binary_cross_entropy_with_logits"])
  func gradients(name: String) throws {
    let isLoss = name.hasPrefix("binary")
    let point = [0.3, -1.2, 0.7, 2.1]
    let upstream = [0.5, -0.25, 1, 2]
    var inputs = isLoss ? ["target": Tensor([0.2, 1, 0, 0.6])] : ["grad.output": Tensor(upstream)]
    let reduction: [String: AttributeValue] = isLoss ? ["reduction": .string("sum")] : [:]
    inputs["input"] = Tensor(point)
    let gradient = try call(name, inputs, reduction, "grad.input")
    for index in point.indices {
      var values: [Double] = []
      for step in [1e-5, -1e-5] {
        var moved = point
        moved[index] += step
        inputs["input"] = Tensor(moved)
        let result = try call(name, inputs, reduction, isLoss ? "loss" : "output")
        values.append(isLoss ? result[0] : zip(result, upstream).reduce(0) { $0 + $1.0 * $1.1 })
      }
      #expect(abs((values[0] - values[1]) / 2e-5 - gradient[index]) < 1e-8, "\(name) \(index)")
    }
  }

  @Test("infinite logits give torch's kinds: (inf, 0) is inf, the other corners are NaN")
  func infiniteLogits() throws {
    let loss = try call(
      "binary_cross_entropy_with_logits",
      [
        "input": Tensor([Double.infinity, .infinity, -.infinity, -.infinity]),
        "target": Tensor([0.0, 1, 0, 1]),
      ], ["reduction": .string("none")], "loss")
    #expect(loss[0] == .infinity)
    #expect(loss[1].isNaN && loss[2].isNaN && loss[3].isNaN)
  }

  @Test("bad input is refused and named")
  func refusals() {
    func message(_ body: () throws -> Void) -> String {
      do {
        try body()
        return ""
      } catch { return (error as? StatusError)?.message ?? "" }
    }
    let outside = message {
      _ = try call(
        "binary_cross_entropy", ["input": Tensor([0.5, 1.5]), "target": Tensor([0.0, 1])], [:],
        "loss")
    }
    #expect(outside == "binary_cross_entropy: input[1] is 1.5, outside [0, 1]")
    let integers = message {
      _ = try call("softmax", ["input": Tensor([1, 2] as [Int64])], [:], "output")
    }
    #expect(integers.contains("expected a floating-point type"))
  }

  @Test("an empty batch: mean is NaN, sum is 0")
  func empty() throws {
    let inputs = ["input": Tensor([] as [Float]), "target": Tensor([] as [Float])]
    #expect(try call("binary_cross_entropy_with_logits", inputs, [:], "loss")[0].isNaN)
    let sum = try call(
      "binary_cross_entropy_with_logits", inputs, ["reduction": .string("sum")], "loss")
    #expect(sum == [0])
  }
}

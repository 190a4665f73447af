import LossdCatalogue
import LossdEngine
import LossdPluginKit
import LossdTensor
import Testing

@Suite struct ElementFunctionTests {
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

  private func isClose(_ actual: [Double], _ expected: [Double]) -> Bool {
    actual.count == expected.count
      && zip(actual, expected).allSatisfy { abs($0 - $1) <= 1e-6 }
  }

  @Test("gelu is torch's, in both forms")
  func gelu() throws {
    let input = ["input": Tensor([-3, -0.5, 0, 0.5, 3] as [Float])]
    #expect(
      isClose(
        try call("gelu", input, [:], "output"),
        [-0.00404970, -0.15426877, 0, 0.34573123, 2.99595022]
      ))
    #expect(
      isClose(
        try call("gelu", input, ["approximate": .string("tanh")], "output"),
        [-0.00363740, -0.15428600, 0, 0.34571400, 2.99636269]))
  }

  @Test("smooth_l1_loss is torch's, with a target that broadcasts")
  func smoothL1() throws {
    let input = Tensor([0.5, 3, -2, 1], shape: [2, 2])
    let inputs = ["input": input, "target": Tensor([0.0, 1.0])]
    #expect(
      isClose(
        try call("smooth_l1_loss", inputs, ["reduction": .string("none")], "loss"),
        [0.125, 1.5, 1.5, 0]))
    #expect(isClose(try call("smooth_l1_loss", inputs, [:], "loss"), [0.78125]))
    #expect(
      isClose(
        try call(
          "smooth_l1_loss", inputs, ["beta": .float(0), "reduction": .string("sum")], "loss"),
        [4.5]))
    #expect(
      isClose(
        try call("smooth_l1_loss", inputs, ["reduction": .string("sum")], "grad.input"),
        [0.5, 1, -1, 0]))
    // The gradient of what is repeated is a sum.
    #expect(
      isClose(
        try call("smooth_l1_loss", inputs, ["reduction": .string("sum")], "grad.target"),
        [0.5, -1]))
    let alike = ["input": input, "target": Tensor([0.0, 0, 0, 0], shape: [2, 2])]
    #expect(
      isClose(
        try call("smooth_l1_loss", alike, ["reduction": .string("sum")], "grad.target"),
        [-0.5, -1, 1, -1]))
  }

  @Test("weights of elements have gradients: of a mean over the weights the loss comes off")
  func gradientOfWeight() throws {
    func gradient(
      _ name: String, _ reduction: String, target: Tensor = Tensor([0.0, 0]),
      upstream: Tensor? = nil
    ) throws -> [Double] {
      var inputs = [
        "input": Tensor([1.0, -3]), "target": target, "weight": Tensor([1.0, 3]),
      ]
      inputs["grad.loss"] = upstream
      return try call(name, inputs, ["reduction": .string(reduction)], "grad.weight")
    }
    #expect(isClose(try gradient("l1_loss", "mean"), [-0.375, 0.125]))
    #expect(
      isClose(try gradient("l1_loss", "mean", upstream: Tensor([2.0], shape: [])), [-0.75, 0.25]))
    #expect(isClose(try gradient("mse_loss", "mean"), [-1.5, 0.5]))
    #expect(isClose(try gradient("mse_loss", "sum"), [1, 9]))
    #expect(isClose(try gradient("mse_loss", "none", upstream: Tensor([2.0, 0.5])), [2, 4.5]))
    #expect(isClose(try gradient("huber_loss", "mean"), [0.25, 1.25]))
    let error = #expect(throws: StatusError.self) {
      try gradient("l1_loss", "mean", target: Tensor([0.0, 0, 0, 0], shape: [2, 2]))
    }
    #expect(error?.message.contains("grad.weight is wanted, which is there where") == true)
    #expect(throws: StatusError.self) {
      try call("l1_loss", ["input": Tensor([1.0]), "target": Tensor([2.0])], [:], "grad.weight")
    }
  }

  @Test("a difference that is no number has torch's slope", arguments: [0.0, 1])
  func noNumber(beta: Double) throws {
    for count in [1, 5, 40] {
      let inputs = [
        "input": Tensor([Float](repeating: .infinity, count: count)),
        "target": Tensor([Float](repeating: .infinity, count: count)),
      ]
      let slopes = try call(
        "smooth_l1_loss", inputs, ["beta": .float(beta), "reduction": .string("sum")], "grad.input")
      #expect(slopes.allSatisfy { beta == 0 ? $0 == 0 : $0.isNaN }, "\(slopes)")
    }
  }

  @Test("gelu of infinities is torch's")
  func infinities() throws {
    let input = ["input": Tensor([.infinity, -.infinity, .nan] as [Double])]
    for form in ["none", "tanh"] {
      let values = try call("gelu", input, ["approximate": .string(form)], "output")
      #expect(values[0] == .infinity && values[1].isNaN && values[2].isNaN)
      let slopes = try call("gelu", input, ["approximate": .string(form)], "grad.input")
      #expect(slopes.allSatisfy { $0.isNaN })
    }
  }

  @Test(
    "smooth_l1_loss refuses a negative beta, takes a target of another type and one that enlarges")
  func refusals() throws {
    let inputs = ["input": Tensor([0.5, 3]), "target": Tensor([0.0, 1.0])]
    #expect(throws: StatusError.self) {
      try call("smooth_l1_loss", inputs, ["beta": .float(-1)], "loss")
    }
    let single = ["input": Tensor([0.5, 3]), "target": Tensor([0, 1] as [Float])]
    let loss = try call("smooth_l1_loss", single, [:], "loss")
    #expect(isClose(loss, [0.8125]))
    let large = ["input": Tensor([0.5, 3]), "target": Tensor([0.0, 1, 2, 3], shape: [2, 2])]
    #expect(
      isClose(
        try call("smooth_l1_loss", large, ["reduction": .string("none")], "loss"),
        [0.125, 1.5, 1, 0]))
    let other = ["input": Tensor([0.5, 3]), "target": Tensor([0.0, 1, 2])]
    #expect(throws: StatusError.self) { try call("smooth_l1_loss", other, [:], "loss") }
  }
}

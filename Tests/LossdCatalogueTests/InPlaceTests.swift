import Glibc
import LossdCatalogue
import LossdEngine
import LossdPluginKit
import LossdTensor
import Testing

/// Results in the places of their inputs, against the same results beside them: the same bits.
@Suite struct InPlaceTests {
  let evaluator: Evaluator

  init() throws {
    let registry = Registry()
    try registry.add(cataloguePlugin())
    evaluator = Evaluator(registry)
  }

  /// Values of all sizes, with infinities, NaN and zeros among them.
  private func tensor(_ type: DataType, _ shape: [Int], seed: UInt64) -> Tensor {
    var state = seed
    let values = (0..<shape.reduce(1, *)).map { index -> Double in
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      if state >> 56 == 1 { return [.infinity, -.infinity, .nan, 0, -0.0][index % 5] }
      return (Double(state >> 40) / Double(1 << 24) - 0.5) * 40
    }
    return switch type {
    case .float64: Tensor(values, shape: shape)
    case .float16: Tensor(values.map { Float16($0) }, shape: shape)
    case .bfloat16: Tensor(values.map { BFloat16($0) }, shape: shape)
    default: Tensor(values.map { Float($0) }, shape: shape)
    }
  }

  private func bytes(_ tensor: Tensor) -> [UInt8] {
    Array(
      UnsafeRawBufferPointer(
        start: tensor.buffer.base + tensor.offset, count: tensor.count * tensor.dataType.byteSize))
  }

  static let shapes: [[Int]] =
    (1...35).map { [$0] } + [[3, 7], [5, 10], [70, 3], [9, 33], [4, 130], [2, 515]]
    + [[3, 5, 4], [2, 12, 40], [2, 600, 40], [2, 4099], [70_001, 1]]

  @Test(
    "a result in its input's place is bit by bit the one beside it",
    arguments: [DataType.float32, .float64, .float16, .bfloat16])
  func inPlace(type: DataType) throws {
    for shape in InPlaceTests.shapes {
      for (name, dims) in [
        ("sigmoid", [nil]), ("softmax", (0..<Int64(shape.count)).map { $0 }),
        ("log_softmax", (0..<Int64(shape.count)).map { $0 }),
      ] as [(String, [Int64?])] {
        for dim in dims {
          for outputs in [["output"], ["grad.input"], ["output", "grad.input"]] {
            for hasUpstream in [false, true] where outputs != ["output"] || !hasUpstream {
              try compare(type, shape, name, dim, outputs, hasUpstream)
            }
          }
        }
      }
    }
  }

  @Test("as are results that would go past the cache", arguments: ["sigmoid", "softmax"])
  func inPlaceOfMuch(name: String) throws {
    try compare(.float64, [1100, 1000], name, nil, ["output"], false)
  }

  private func compare(
    _ type: DataType, _ shape: [Int], _ name: String, _ dim: Int64?, _ outputs: [String],
    _ hasUpstream: Bool
  ) throws {
    func results(_ mayOverwrite: Bool) throws -> ([String: Tensor], input: Tensor) {
      let input = tensor(type, shape, seed: 11)
      var inputs = ["input": input]
      if hasUpstream { inputs["grad.output"] = tensor(type, shape, seed: 12) }
      let results = try evaluator.evaluate(
        name, inputs: inputs, attributes: dim.map { ["dim": .int($0)] } ?? [:], outputs: outputs,
        mayOverwrite: mayOverwrite)
      return (results, input)
    }
    let (beside, kept) = try results(false)
    let (inPlace, input) = try results(true)
    #expect(bytes(kept) == bytes(tensor(type, shape, seed: 11)))
    for output in outputs {
      let result = try #require(inPlace[output])
      #expect((result.buffer === input.buffer) == (outputs.count == 1))
      #expect(
        try bytes(result) == bytes(#require(beside[output])),
        "\(name) \(output) of \(shape), dim \(String(describing: dim)), \(type)")
    }
  }
}

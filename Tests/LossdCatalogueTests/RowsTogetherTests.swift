import LossdCatalogue
import LossdEngine
import LossdPluginKit
import LossdTensor
import Testing

/// A function of rows, and what the calls of these tests give beside its rows.
struct RowsCase: CustomTestStringConvertible, Sendable {
  let function: String
  /// Tensors of rows like the first.
  let operands: [String]
  var attributes: [String: AttributeValue] = [:]
  /// A class of each row, or a sign.
  var target: ClosedRange<Int64>?
  var outputs = ["loss", "grad.input"]

  var testDescription: String { function }

  static let all = [
    RowsCase(
      function: "normalize", operands: ["input", "grad.output"], attributes: ["dim": .int(-1)],
      outputs: ["output", "grad.input"]),
    RowsCase(
      function: "logsumexp", operands: ["input"], attributes: ["dim": .int(-1)],
      outputs: ["output", "grad.input"]),
    RowsCase(
      function: "cosine_similarity", operands: ["x1", "x2"], attributes: ["dim": .int(-1)],
      outputs: ["output", "grad.x1", "grad.x2"]),
    RowsCase(
      function: "pairwise_distance", operands: ["x1", "x2"],
      outputs: ["output", "grad.x1", "grad.x2"]),
    RowsCase(
      function: "pairwise_distance", operands: ["x1", "x2"],
      attributes: ["p": .float(.infinity)], outputs: ["output", "grad.x1", "grad.x2"]),
    RowsCase(
      function: "triplet_margin_loss", operands: ["anchor", "positive", "negative"],
      attributes: ["swap": .bool(true)],
      outputs: ["loss", "grad.anchor", "grad.positive", "grad.negative"]),
    RowsCase(
      function: "cosine_embedding_loss", operands: ["input1", "input2"], target: 1...1,
      outputs: ["loss", "grad.input1", "grad.input2"]),
    RowsCase(
      function: "cross_entropy", operands: ["input"], attributes: ["softcap": .float(3)],
      target: 0...4),
    RowsCase(function: "asymmetric_loss_single_label", operands: ["input"], target: 0...4),
    RowsCase(function: "arcface_loss", operands: ["input"], target: 0...4),
    RowsCase(function: "generalized_cross_entropy", operands: ["input"], target: 0...4),
    RowsCase(function: "softmax_focal_loss", operands: ["input"], target: 0...4),
    RowsCase(function: "multi_margin_loss", operands: ["input"], target: 0...4),
  ]
}

@Suite struct RowsTogetherTests {
  private let evaluator: Evaluator

  init() throws {
    let registry = Registry()
    try registry.add(cataloguePlugin())
    evaluator = Evaluator(registry)
  }

  /// The bits of every result of `rows`, each a slice of the numbers.
  private func results(
    _ item: RowsCase, _ numbers: [[Double]], _ rows: Range<Int>, _ size: Int, _ type: DataType
  ) throws -> [[UInt64]] {
    var inputs: [String: Tensor] = [:]
    for (index, name) in item.operands.enumerated() {
      inputs[name] = tensor(
        Array(numbers[index][rows.lowerBound * size..<rows.upperBound * size]),
        [rows.count, size], type)
    }
    if let target = item.target {
      inputs["target"] = Tensor(
        rows.map { target.lowerBound + Int64($0) % Int64(target.count) }, shape: [rows.count])
    }
    var attributes = item.attributes
    if item.outputs[0] == "loss" { attributes["reduction"] = .string("none") }
    let results = try evaluator.evaluate(
      item.function, inputs: inputs, attributes: attributes, outputs: item.outputs)
    return try item.outputs.map { try #require(results[$0]).doubles.map(\.bitPattern) }
  }

  private func tensor(_ values: [Double], _ shape: [Int], _ type: DataType) -> Tensor {
    switch type {
    case .float64: Tensor(values, shape: shape)
    case .float16: Tensor(values.map { Float16($0) }, shape: shape)
    default: Tensor(values.map { Float($0) }, shape: shape)
    }
  }

  @Test(
    "a row has the same bits alone and among others, beside infinities and NaN too",
    arguments: RowsCase.all, [DataType.float32, .float64, .float16])
  func sameBits(_ item: RowsCase, _ type: DataType) throws {
    var generator = SeededGenerator(7)
    for size in [5, 10, 33, 300] {
      let rows = 37
      for isWild in [false, true] {
        let numbers = item.operands.map { _ in
          (0..<rows * size).map { place in
            isWild && place / size % 5 == 2 && place % size == 3
              ? [Double.infinity, -.infinity, .nan].randomElement(using: &generator)!
              : Double.random(in: -1...1, using: &generator)
          }
        }
        let whole = try results(item, numbers, 0..<rows, size, type)
        for row in 0..<rows {
          // Targets follow the number of the row: one that begins where a class does.
          guard item.target.map({ row % $0.count == 0 }) ?? true else { continue }
          let alone = try results(item, numbers, row..<row + 1, size, type)
          for (all, one) in zip(whole, alone) {
            let width = one.count
            #expect(Array(all[row * width..<(row + 1) * width]) == one, "\(size), row \(row)")
          }
        }
      }
    }
  }

  @Test(
    "integers stay what they are in the rectifiers; numbers out of their type are refused"
  )
  func integers() throws {
    func call(
      _ name: String, _ input: Tensor, _ attributes: [String: AttributeValue] = [:]
    ) throws -> Tensor {
      try #require(
        try evaluator.evaluate(
          name, inputs: ["input": input], attributes: attributes, outputs: ["output"])["output"])
    }
    let large = Int64(1) << 60 + 1
    let result = try call("relu", Tensor([-large, 0, 7, large]))
    #expect(result.dataType == .int64)
    #expect(result.integers(Int64.self) == [0, 0, 7, large])
    #expect(try call("relu6", Tensor([253, 0, 5] as [UInt8])).integers(UInt8.self) == [6, 0, 5])
    let bytes = Tensor([-3, 0, 1, 5, 100] as [Int8])
    #expect(
      try call("hardtanh", bytes, ["min_val": .float(-1.5), "max_val": .float(2.7)])
        .integers(Int8.self) == [-1, 0, 1, 2, 2])
    #expect(
      try call("threshold", bytes, ["threshold": .float(1.9), "value": .float(-2.7)])
        .integers(Int8.self) == [-2, -2, -2, 5, 100])
    for (name, attributes, text) in [
      ("hardtanh", ["max_val": AttributeValue.float(300)], "max_val is 300.0, which input's type"),
      (
        "threshold", ["threshold": .float(-300), "value": .float(0)],
        "threshold is -300.0, which input's type int8 does not hold"
      ),
    ] {
      let error = #expect(throws: StatusError.self) { try call(name, bytes, attributes) }
      #expect(error?.message.contains(text) == true, "\(error?.message ?? "")")
    }
    #expect(throws: StatusError.self) {
      try evaluator.evaluate(
        "relu", inputs: ["input": bytes], attributes: [:], outputs: ["grad.input"])
    }
  }
}

extension Tensor {
  fileprivate func integers<T: FixedWidthInteger & BitwiseCopyable>(_ type: T.Type) -> [T] {
    bytes.withMemoryRebound(to: type) { Array($0) }
  }
}

import Glibc
import LossdCatalogue
import LossdEngine
import LossdPluginKit
import LossdTensor
import Testing

/// Cross entropy over more classes than one unit of work takes, against plain sums.
@Suite struct LongClassTests {
  let evaluator: Evaluator

  init() throws {
    let registry = Registry()
    try registry.add(cataloguePlugin())
    evaluator = Evaluator(registry)
  }

  private static let classes = 70_003
  private let weights = pattern(classes, 3).map { $0 + 1.5 }

  /// Repeatable values in [-1, 1].
  private static func pattern(_ count: Int, _ step: Int) -> [Double] {
    (0..<count).map { Double(Float(sin(Double($0 * step + 1) * 12.9898))) }
  }

  private func logarithms(_ x: [Double]) -> [Double] {
    let top = x.max() ?? 0
    let sum = x.reduce(0) { $0 + exp($1 - top) }
    return x.map { $0 - top - log(sum) }
  }

  private struct Expected {
    var losses: [Double] = []
    var gradient: [[Double]] = []
    var targetGradient: [[Double]] = []
  }

  /// By the formulas, with a gradient of the sum of the rows' losses.
  private func expected(
    _ rows: [[Double]], _ shares: [[Double]], smoothing: Double, _ weights: [Double]?
  ) -> Expected {
    var result = Expected()
    for (x, share) in zip(rows, shares) {
      let logs = logarithms(x)
      let total = share.reduce(0, +)
      result.losses.append(-zip(share, logs).reduce(0) { $0 + $1.0 * $1.1 })
      result.gradient.append(zip(share, logs).map { exp($1) * total - $0 })
      result.targetGradient.append(
        logs.indices.map { -(1 - smoothing) * (weights?[$0] ?? 1) * logs[$0] })
    }
    return result
  }

  private func check(_ actual: Tensor?, _ expected: [Double], _ tolerance: Double) throws {
    let values = try #require(actual).doubles
    let floor = expected.reduce(0) { max($0, abs($1)) }
    let worst = zip(values, expected).reduce(0) { max($0, abs($1.0 - $1.1)) }
    #expect(values.count == expected.count && worst <= tolerance * floor, "\(worst) of \(floor)")
  }

  /// (2, C) as rows, or (1, C, 2) where they are columns next to one another.
  private func layOut(_ rows: [[Double]], isColumns: Bool) -> [Double] {
    isColumns ? (0..<Self.classes).flatMap { [rows[0][$0], rows[1][$0]] } : rows[0] + rows[1]
  }

  private func tensor(_ values: [Double], _ isSingle: Bool, _ shape: [Int]) -> Tensor {
    isSingle ? Tensor(values.map { Float($0) }, shape: shape) : Tensor(values, shape: shape)
  }

  @Test(
    "indices and probabilities, weighted and smoothed, in rows and in columns",
    arguments: [true, false], [0, 0.1])
  func losses(isSingle: Bool, smoothing: Double) throws {
    let count = Self.classes
    let rows = [Self.pattern(count, 1), Self.pattern(count, 2)].map { $0.map { 4 * $0 } }
    let rounded = rows.map { $0.map { isSingle ? Double(Float($0)) : $0 } }
    let targets = [count - 2, 12_345]
    let tolerance = isSingle ? 5e-7 : 1e-12
    let weight = tensor(weights, isSingle, [count])
    let w = weight.doubles
    for isColumns in [false, true] {
      let shape = isColumns ? [1, count, 2] : [2, count]
      let input = tensor(layOut(rows, isColumns: isColumns), isSingle, shape)
      let attributes: [String: AttributeValue] = [
        "reduction": .string("none"), "label_smoothing": .float(smoothing),
      ]
      let shares = targets.map { target in
        (0..<count).map { index in
          w[index] * ((index == target ? 1 - smoothing : 0) + smoothing / Double(count))
        }
      }
      let labels = Tensor(targets.map { Int64($0) }, shape: isColumns ? [1, 2] : [2])
      let wanted = expected(rounded, shares, smoothing: smoothing, w)
      let result = try evaluator.evaluate(
        "cross_entropy", inputs: ["input": input, "target": labels, "weight": weight],
        attributes: attributes, outputs: ["loss", "grad.input"])
      // With indices torch smooths by w[i], and the target's part by its own weight.
      try check(result["loss"], wanted.losses, tolerance)
      try check(result["grad.input"], layOut(wanted.gradient, isColumns: isColumns), tolerance)

      let y = [Self.pattern(count, 5), Self.pattern(count, 7)].map { $0.map { abs($0) / 1e4 } }
      let probabilities = tensor(layOut(y, isColumns: isColumns), isSingle, shape)
      let spread = y.map { row in
        row.indices.map { index in
          let value = isSingle ? Double(Float(row[index])) : row[index]
          return w[index] * (value * (1 - smoothing) + smoothing / Double(count))
        }
      }
      let wantedSpread = expected(rounded, spread, smoothing: smoothing, w)
      let soft = try evaluator.evaluate(
        "cross_entropy", inputs: ["input": input, "target": probabilities, "weight": weight],
        attributes: attributes, outputs: ["loss", "grad.input", "grad.target"])
      try check(soft["loss"], wantedSpread.losses, tolerance)
      try check(soft["grad.input"], layOut(wantedSpread.gradient, isColumns: isColumns), tolerance)
      try check(
        soft["grad.target"], layOut(wantedSpread.targetGradient, isColumns: isColumns), tolerance)
    }
  }

  @Test("the mean divides by the weights of the targets kept; an ignored row has no gradient")
  func ignored() throws {
    let count = Self.classes
    let rows = Self.pattern(2 * count, 1)
    let inputs = [
      "input": Tensor(rows, shape: [2, count]), "target": Tensor([7, -100] as [Int32]),
      "weight": Tensor(weights),
    ]
    let result = try evaluator.evaluate(
      "cross_entropy", inputs: inputs, outputs: ["loss", "grad.input"])
    let logs = logarithms(Array(rows[..<count]))
    #expect(abs((result["loss"]?.scalar ?? 0) + logs[7]) < 1e-12)
    let gradient = try #require(result["grad.input"]).doubles
    #expect(gradient[count...].allSatisfy { $0 == 0 })
    #expect(abs(gradient[7] - (exp(logs[7]) - 1)) < 1e-12)
    #expect {
      try evaluator.evaluate(
        "cross_entropy",
        inputs: [
          "input": Tensor(rows, shape: [2, count]), "target": Tensor([7, 70_003] as [Int64]),
        ])
    } throws: {
      ($0 as? StatusError)?.message == "cross_entropy: target[1] is 70003, outside [0, 70003)"
    }
  }
}

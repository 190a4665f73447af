import LossdPluginKit
import LossdTensor

/// torch's `reduction`, the first attribute of every loss.
enum Reduction {
  /// `batchMean`: the sum over the input's first size.
  case none, mean, sum, batchMean

  static let attribute = attribute()
  static func attribute(_ usual: String = "mean", hasBatchMean: Bool = false)
    -> AttributeDeclaration
  {
    AttributeDeclaration(
      "reduction", .string, default: .string(usual),
      choices: ["none", "mean", "sum"] + (hasBatchMean ? ["batchmean"] : []), role: .reduction,
      help: "none: a loss an element or row; mean; sum"
        + (hasBatchMean ? "; batchmean: the sum over input's first size" : ""))
  }
  /// The first attribute of every loss of the catalogue.
  private static let place = 0
  static let accumulators = ["loss_sum", "weight_sum"]
  static let values = ["loss"]
  static var emptyShape: UnsafeBufferPointer<Int64> { .init(start: nil, count: 0) }

  init(_ attributes: Attributes) {
    self =
      attributes.string(Reduction.place, equals: "mean")
      ? .mean
      : attributes.string(Reduction.place, equals: "sum")
        ? .sum : attributes.string(Reduction.place, equals: "none") ? .none : .batchMean
  }

  static func finish(_ attributes: Attributes, _ sums: UnsafePointer<Double>) -> Double? {
    switch Reduction(attributes) {
    case .none: nil
    case .mean, .batchMean: sums[Sums.losses] / sums[Sums.weights]
    case .sum: sums[Sums.losses]
    }
  }

  /// What a row's gradient is scaled by, apart from an upstream gradient a row.
  func scale(_ upstream: TensorView?, _ index: Int, weightSum: Double) -> Double {
    switch self {
    case .none: upstream.map { $0[index] } ?? 1
    case .sum: upstream.map { $0[0] } ?? 1
    case .mean, .batchMean: (upstream.map { $0[0] } ?? 1) / weightSum
    }
  }
}

/// How many parts of at most `size` so many elements make. Of any number: a tensor without elements may have a dimension
/// of nearly 2^63.
@inline(__always)
func parts(_ elements: Int, of size: Int) -> Int {
  elements / size + (elements % size == 0 ? 0 : 1)
}

/// How elementwise functions are cut: in blocks, so that planning and claiming cost nothing.
enum Blocks {
  static let size = 1024
  static func count(_ elements: Int) -> Int { parts(elements, of: size) }
  static func elements(_ blocks: Range<Int>, of count: Int) -> Range<Int> {
    blocks.lowerBound * size..<min(blocks.upperBound * size, count)
  }
}

/// How long sums are cut: in pieces of a fixed size, merged in order.
enum Pieces {
  static let size = 1 << 14
  /// At least one, so that a sum of nothing is written too.
  static func count(_ elements: Int) -> Int { max(parts(elements, of: size), 1) }
  static func elements(_ piece: Int, of count: Int) -> Range<Int> {
    piece * size..<min((piece + 1) * size, count)
  }
}

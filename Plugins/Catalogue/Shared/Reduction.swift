import LossdPluginKit
import LossdTensor

extension LossReduction {
  static let attribute = attribute()
  static var emptyShape: UnsafeBufferPointer<Int64> { .init(start: nil, count: 0) }

  static func finish(_ attributes: Attributes, _ sums: UnsafePointer<Double>) -> Double? {
    LossReduction(attributes).value(sums)
  }

  /// What a row's gradient is scaled by: `gradientScale`, or the row's own upstream gradient.
  func scale(_ upstream: TensorView?, _ index: Int, weightSum: Double) -> Double {
    switch self {
    case .none: upstream.map { $0[index] } ?? 1
    case .sum: upstream.map { $0[0] } ?? 1
    case .mean, .batchMean: (upstream.map { $0[0] } ?? 1) / weightSum
    }
  }
}

/// How many parts of at most `size` so many elements make. Of any number: a tensor without elements
/// may have a dimension of nearly 2^63.
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

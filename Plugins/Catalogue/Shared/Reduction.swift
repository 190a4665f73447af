import LossdKernelTable
import LossdKernels
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

/// A sum of a chunk, of which nothing is rounded away: the same however the rows were cut.
struct ChunkTotal {
  private let chunk: Chunk
  private let index: Int

  init(_ chunk: Chunk, _ index: Int) {
    self.chunk = chunk
    self.index = index
  }

  @inline(__always)
  func add(_ value: Double) { chunk.add(value, to: index) }

  /// `count` of them times the value, which may be no float64.
  func add(_ value: Double, times count: Int) {
    if count == 1 { add(value) } else { chunk.add(value, times: count, to: index) }
  }

  @inline(__always)
  func add(_ values: UnsafePointer<Double>, _ count: Int) {
    if count < 8 { return chunk.add(values, count, to: index) }
    add(values, count, Kernels.chosen?.float64 ?? Kernels.baseline.float64, isDouble: true)
  }

  /// Numbers as the kernels leave losses: float32, or float64 for float64.
  func add(_ values: UnsafeRawPointer, _ count: Int, _ kernels: KernelTable, isDouble: Bool) {
    let stride = isDouble ? MemoryLayout<Double>.stride : MemoryLayout<Float>.stride
    var first = 0
    while first < count {
      let part = values + first * stride
      let some = min(1024, count - first)
      var parts = (0.0, 0.0, 0.0)
      let isWhole = withUnsafeMutableBytes(of: &parts) { bytes in
        let parts = bytes.assumingMemoryBound(to: Double.self)
        guard let goal = parts.baseAddress, kernels.exactSum(part, some, goal) else { return false }
        chunk.add(goal, 3, to: index)
        return true
      }
      if !isWhole { addEach(part, some, isDouble) }
      first += some
    }
  }

  private func addEach(_ values: UnsafeRawPointer, _ count: Int, _ isDouble: Bool) {
    if isDouble {
      return chunk.add(values.assumingMemoryBound(to: Double.self), count, to: index)
    }
    let values = values.assumingMemoryBound(to: Float.self)
    for place in 0..<count { add(Double(values[place])) }
  }
}

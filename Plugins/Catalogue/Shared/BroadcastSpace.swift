import CLossdPlugin
import LossdTensor

/// What several tensors broadcast to: its shape, and each one's strides in it, in elements; 0 where a
/// tensor is repeated. A plain value, so that `plan` can hand it to `run`.
struct BroadcastSpace: BitwiseCopyable {
  typealias Dimensions = InlineArray<64, Int>
  typealias Offsets = InlineArray<3, Int>

  private(set) var rank = 0
  private(set) var shape = Dimensions(repeating: 1)
  private(set) var strides = InlineArray<3, Dimensions>(repeating: Dimensions(repeating: 0))
  private(set) var count = 1

  /// Enlarges the space to hold `tensor`, the operand of this number; false when it does not fit.
  mutating func add(_ tensor: TensorView) -> Bool {
    if tensor.rank > rank {
      let more = tensor.rank - rank
      for index in stride(from: rank - 1, through: 0, by: -1) { shape[index + more] = shape[index] }
      for index in 0..<more { shape[index] = 1 }
      rank = tensor.rank
    }
    let skipped = rank - tensor.rank
    for index in 0..<tensor.rank {
      let size = tensor.size(index)
      if size == shape[skipped + index] || size == 1 { continue }
      guard shape[skipped + index] == 1 else { return false }
      shape[skipped + index] = size
    }
    return true
  }

  /// Sets an operand's strides, once all are added; false when there are 2^63 elements or more.
  mutating func setStrides(_ operand: Int, _ tensor: TensorView) -> Bool {
    var step = 1
    for index in stride(from: tensor.rank - 1, through: 0, by: -1) {
      let size = tensor.size(index)
      strides[operand][rank - tensor.rank + index] = size == 1 ? 0 : step
      step *= size
    }
    var product = 1
    var isEmpty = false
    for index in 0..<rank {
      if shape[index] == 0 { isEmpty = true }
      let (next, overflow) = product.multipliedReportingOverflow(by: max(shape[index], 1))
      if overflow { return false }
      product = next
    }
    count = isEmpty ? 0 : product
    return true
  }

  /// Calls `body` with the space's shape, which lives as long.
  func withShape<Result>(
    _ body: (UnsafeBufferPointer<Int64>) throws(StatusError) -> Result
  ) throws(StatusError) -> Result {
    var sizes = InlineArray<64, Int64>(repeating: 1)
    for index in 0..<rank { sizes[index] = Int64(shape[index]) }
    return try withUnsafePointer(to: sizes) { pointer throws(StatusError) in
      try body(
        UnsafeBufferPointer(
          start: UnsafeRawPointer(pointer).assumingMemoryBound(to: Int64.self), count: rank))
    }
  }

  func isWhole(_ tensor: TensorView) -> Bool {
    tensor.rank == rank && (0..<rank).allSatisfy { tensor.size($0) == shape[$0] }
  }

  /// The operands' offsets of element `index` of the dimensions that `isIn`, in row-major order.
  @inline(__always)
  func offsets(_ index: Int, _ isIn: (Int) -> Bool) -> Offsets {
    var rest = index
    var offsets = Offsets(repeating: 0)
    for dimension in stride(from: rank - 1, through: 0, by: -1) where isIn(dimension) {
      let place = rest % shape[dimension]
      rest /= shape[dimension]
      for operand in 0..<3 { offsets[operand] += place * strides[operand][dimension] }
    }
    return offsets
  }

  /// The row-major index in the whole space of an operand's element and one of its repetitions.
  @inline(__always)
  func flatIndex(_ operand: Int, _ element: Int, _ repetition: Int) -> Int {
    var (element, repetition) = (element, repetition)
    var (index, step) = (0, 1)
    for dimension in stride(from: rank - 1, through: 0, by: -1) {
      let size = shape[dimension]
      if strides[operand][dimension] == 0 {
        index += repetition % size * step
        repetition /= size
      } else {
        index += element % size * step
        element /= size
      }
      step *= size
    }
    return index
  }
}

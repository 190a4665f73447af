import LossdTensor

/// How a tensor is read as if it had the shape that it broadcasts to: the sizes of that shape's
/// dimensions and the tensor's strides in them, 0 where it is repeated. Innermost first; dimensions
/// that lie alike are joined, those of size 1 are left out.
@usableFromInline struct Broadcast: BitwiseCopyable {
  @usableFromInline typealias Dimensions = InlineArray<64, Int>

  @usableFromInline var rank = 0
  @usableFromInline var sizes = Dimensions(repeating: 1)
  @usableFromInline var strides = Dimensions(repeating: 0)

  init() {}

  /// Of a tensor that broadcasts to `shape`, in row-major order.
  init(_ tensor: TensorView, to shape: BroadcastShape) {
    self.init()
    add(tensor, shape) { _ in true }
  }

  /// In the order of `sums`: the repetitions of its operand are inside of the operand's own
  /// dimensions, or outside.
  init(_ tensor: TensorView, to shape: BroadcastShape, _ operand: TensorView, _ sums: RepeatSums) {
    self.init()
    add(tensor, shape) { (operand.sizeFromLast($0) != 1) == sums.isOwnInner }
    add(tensor, shape) { (operand.sizeFromLast($0) != 1) != sums.isOwnInner }
  }

  private mutating func add(
    _ tensor: TensorView, _ shape: BroadcastShape, _ isTaken: (Int) -> Bool
  ) {
    var step = 1
    for back in 0..<shape.rank {
      let (wide, own) = (shape.sizeFromLast(back), tensor.sizeFromLast(back))
      if wide != 1 && isTaken(back) { add(wide, stride: own == 1 ? 0 : step) }
      step *= own
    }
  }

  private mutating func add(_ size: Int, stride: Int) {
    if rank > 0 {
      let last = strides[rank - 1]
      if stride == 0 ? last == 0 : last != 0 && stride == last * sizes[rank - 1] {
        sizes[rank - 1] *= size
        return
      }
    }
    sizes[rank] = size
    strides[rank] = stride
    rank += 1
  }

  /// No repetition and no other order: the flat index is the same.
  @inlinable var isWhole: Bool { rank == 0 || rank == 1 && strides[0] == 1 }

  /// Elements `index ..< index + count` of the wide shape, at least one, widened.
  @inlinable
  func read<T: LossScalar>(
    _ tensor: TensorView, _ index: Int, _ to: UnsafeMutablePointer<T>, _ count: Int
  ) {
    var places = Dimensions(repeating: 0)
    var (rest, place) = (index, 0)
    for dimension in 0..<rank {
      let (quotient, remainder) = rest.quotientAndRemainder(dividingBy: sizes[dimension])
      places[dimension] = remainder
      place &+= remainder &* strides[dimension]
      rest = quotient
    }
    var (done, inner) = (0, places[0])
    while true {
      // The innermost dimension from this place on.
      let run = Swift.min(sizes[0] &- inner, count &- done)
      if strides[0] == 1 {
        T._load(tensor, place, to + done, run)
      } else {
        T._load(tensor, place, to + done, 1)
        let element = to[done]
        var repeated = 1
        while repeated < run {
          to[done &+ repeated] = element
          repeated &+= 1
        }
      }
      done &+= run
      if done == count { return }
      // Then the next place.
      place &-= inner &* strides[0]
      inner = 0
      var dimension = 1
      while dimension < rank {
        places[dimension] &+= 1
        place &+= strides[dimension]
        if places[dimension] < sizes[dimension] { break }
        place &-= sizes[dimension] &* strides[dimension]
        places[dimension] = 0
        dimension &+= 1
      }
    }
  }
}

import LossdTensor

/// What input and target broadcast to by torch's rules, as `torch.broadcast_shapes` says.
struct BroadcastShape: BitwiseCopyable {
  private(set) var rank = 0
  /// 0 where a dimension is empty.
  private(set) var count = 1
  private var sizes = InlineArray<64, Int64>(repeating: 1)

  init(_ input: TensorView, _ target: TensorView) throws(StatusError) {
    rank = max(input.rank, target.rank)
    for back in 0..<rank {
      let (a, b) = (input.sizeFromLast(back), target.sizeFromLast(back))
      guard a == b || a == 1 || b == 1 else {
        throw StatusError(
          .invalidArgument,
          "target is \(shapeText(target.shape)), which does not broadcast with input "
            + shapeText(input.shape))
      }
      sizes[rank - 1 - back] = Int64(a == 1 ? b : a)
    }
    var isEmpty = false
    for index in 0..<rank {
      isEmpty = isEmpty || sizes[index] == 0
      let (product, overflow) = count.multipliedReportingOverflow(by: max(Int(sizes[index]), 1))
      if overflow {
        throw StatusError(
          .invalidArgument, "input and target broadcast to 2^63 elements or more")
      }
      count = product
    }
    if isEmpty { count = 0 }
  }

  /// The size of the dimension that has so many behind it.
  func sizeFromLast(_ back: Int) -> Int { Int(sizes[rank - 1 - back]) }

  /// Whether `tensor` broadcasts to this shape without enlarging it.
  func holds(_ tensor: TensorView) -> Bool {
    tensor.rank <= rank
      && (0..<tensor.rank).allSatisfy {
        tensor.sizeFromLast($0) == sizeFromLast($0) || tensor.sizeFromLast($0) == 1
      }
  }

  /// Calls `body` with the sizes, which live as long.
  func withSizes<Result>(
    _ body: (UnsafeBufferPointer<Int64>) throws(StatusError) -> Result
  ) throws(StatusError) -> Result {
    try withUnsafePointer(to: sizes) { pointer throws(StatusError) in
      try body(
        UnsafeBufferPointer(
          start: UnsafeRawPointer(pointer).assumingMemoryBound(to: Int64.self), count: rank))
    }
  }
}

extension TensorView {
  /// The size of the dimension that has so many behind it; 1 where there is none.
  func sizeFromLast(_ back: Int) -> Int { back < rank ? size(rank - 1 - back) : 1 }
}

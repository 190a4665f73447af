import LossdTensor

/// How a tensor is read as if it had another's shape: its strides there, dimensions that lie alike
/// joined. Innermost first. A plain value, so that `plan` can hand it to `run`.
@usableFromInline struct Broadcast: BitwiseCopyable {
  @usableFromInline typealias Dimensions = InlineArray<64, Int>

  private var rank = 0
  /// No repetition: the flat index is the same.
  @usableFromInline private(set) var isWhole = true
  private var sizes = Dimensions(repeating: 1)
  private var strides = Dimensions(repeating: 0)

  @usableFromInline init() {}

  /// nil where `tensor` does not broadcast to `shape` without enlarging it (torch's rules).
  @usableFromInline init?(_ tensor: TensorView, to shape: UnsafeBufferPointer<Int64>) {
    guard tensor.rank <= shape.count else { return nil }
    var step = 1
    for back in 1..<(shape.count + 1) {
      let wide = Int(shape[shape.count - back])
      let own = back <= tensor.rank ? tensor.size(tensor.rank - back) : 1
      guard own == wide || own == 1 else { return nil }
      let stride = own == 1 ? 0 : step
      step *= own
      if wide == 1 { continue }
      if own != wide { isWhole = false }
      if rank > 0, stride == 0 ? strides[rank - 1] == 0 : joins(stride) {
        sizes[rank - 1] *= wide
      } else {
        sizes[rank] = wide
        strides[rank] = stride
        rank += 1
      }
    }
  }

  /// Whether a dimension of this stride continues the last one.
  private func joins(_ stride: Int) -> Bool {
    strides[rank - 1] != 0 && stride == strides[rank - 1] * sizes[rank - 1]
  }

  /// Elements `index ..< index + count` of the wide shape, widened.
  @usableFromInline
  func read<T: LossScalar>(
    _ tensor: TensorView, _ index: Int, _ to: UnsafeMutablePointer<T>, _ count: Int
  ) {
    if isWhole {
      T._load(tensor, index, to, count)
      return
    }
    var done = 0
    while done < count {
      // The innermost dimension from this place on, then the next place.
      var rest = index + done
      let inner = rest % sizes[0]
      var place = 0
      for dimension in 0..<rank {
        place += rest % sizes[dimension] * strides[dimension]
        rest /= sizes[dimension]
      }
      let run = Swift.min(sizes[0] - inner, count - done)
      if strides[0] == 1 {
        T._load(tensor, place, to + done, run)
      } else {
        T._load(tensor, place, to + done, 1)
        for repeated in 1..<run { to[done + repeated] = to[done] }
      }
      done += run
    }
  }
}

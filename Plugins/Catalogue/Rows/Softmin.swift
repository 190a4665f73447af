import LossdPluginKit
import LossdTensor

/// exp(-x) / sum(exp(-x)) along `dim`; torch.nn.functional.softmin. Integers are negated in their own type, which wraps
/// around, before they are cast.
enum Softmin: SoftmaxFunction {
  static let name = "softmin"
  static let summary = "exp(-x) / sum(exp(-x)) along dim"
  static let isLogarithmic = false
  static let isNegated = true
}

extension SoftmaxFunction {
  /// What the softmax is taken of: a result that -input has been written to, where it is negated.
  static func source(_ call: Call) -> TensorView? {
    isNegated
      ? call.output(ActivationPlaces.gradient) ?? call.output(ActivationPlaces.output)
      : call.input(ActivationPlaces.input)
  }

  /// Adds a pass that turns signs and returns its number.
  static func planNegation(_ plan: inout Plan, _ count: Int) -> Int {
    plan.addPass(units: Blocks.count(count), unitCost: 0.3 * Double(Blocks.size))
  }

  /// Writes -input, of the type that it is cast to, or turns the signs of the gradient.
  static func negate(_ call: Call, _ chunk: Chunk, isFirst: Bool) {
    guard let input = call.input(ActivationPlaces.input), let goal = source(call) else { return }
    let from = isFirst ? input : goal
    let range = Blocks.elements(chunk.range, of: input.count)
    guard from.dataType == goal.dataType else {
      for index in range { goal[index] = from.negative(index) }
      return
    }
    switch goal.dataType.byteSize {
    case 8: turnSigns(from, goal, range, UInt64(1) << 63)
    case 4: turnSigns(from, goal, range, UInt32(1) << 31)
    default: turnSigns(from, goal, range, UInt16(1) << 15)
    }
  }

  @inline(__always)
  private static func turnSigns<Bits: FixedWidthInteger & BitwiseCopyable>(
    _ from: TensorView, _ to: TensorView, _ range: Range<Int>, _ sign: Bits
  ) {
    let (x, y) = (from.elements(as: Bits.self), to.elements(as: Bits.self))
    for index in range { y[index] = x[index] ^ sign }
  }
}

extension TensorView {
  /// An element's negative, in the tensor's own type.
  @inline(__always)
  fileprivate func negative(_ index: Int) -> Double {
    if dataType.isFloatingPoint { return -self[index] }
    let exact = 0 &- integer(index)
    switch dataType {
    case .int64: return Double(exact)
    case .int32: return Double(Int32(truncatingIfNeeded: exact))
    case .int16: return Double(Int16(truncatingIfNeeded: exact))
    case .int8: return Double(Int8(truncatingIfNeeded: exact))
    default: return Double(UInt8(truncatingIfNeeded: exact))
    }
  }
}

import LossdPluginKit
import LossdTensor

/// An activation of straight pieces of integers, exact in their own type: between two bounds, or above one and else a value.
/// torch cuts the fractions of its numbers off, and refuses what the type does not hold.
enum IntegerPieces {
  /// The element between two numbers.
  case bounded(Double, Double)
  /// The element above the first number, else the second.
  case above(Double, else: Double)

  /// Both numbers, by the attributes' names, where they come from attributes.
  func check(_ type: DataType, _ names: (StaticString, StaticString)) throws(StatusError) {
    let (first, second) = numbers
    for (number, name) in [(first, names.0), (second, names.1)] where !type.holds(number) {
      throw invalid("\(name) is \(number), which input's type \(type) does not hold")
    }
  }

  private var numbers: (Double, Double) {
    switch self {
    case .bounded(let low, let high): (low, high)
    case .above(let limit, let value): (limit, value)
    }
  }

  func run(_ x: TensorView, _ y: TensorView?, _ range: Range<Int>) {
    guard let y else { return }
    switch x.dataType {
    case .int64: run(Int64.self, x, y, range)
    case .int32: run(Int32.self, x, y, range)
    case .int16: run(Int16.self, x, y, range)
    case .int8: run(Int8.self, x, y, range)
    default: run(UInt8.self, x, y, range)
    }
  }

  private func run<T: FixedWidthInteger & BitwiseCopyable>(
    _ type: T.Type, _ x: TensorView, _ y: TensorView, _ range: Range<Int>
  ) {
    let (x, y) = (x.elements(as: type), y.elements(as: type))
    // Of a bound that is no attribute's, such as relu's, the nearest number of the type.
    let (first, second) = (T(clamping: numbers.0), T(clamping: numbers.1))
    switch self {
    case .bounded: for index in range { y[index] = min(max(x[index], first), second) }
    case .above: for index in range { y[index] = x[index] > first ? x[index] : second }
    }
  }
}

extension DataType {
  /// Whether a number without its fraction is one of this type of integers.
  fileprivate func holds(_ number: Double) -> Bool {
    switch self {
    case .int64: Int64(exactly: number.rounded(.towardZero)) != nil
    case .int32: Int32(exactly: number.rounded(.towardZero)) != nil
    case .int16: Int16(exactly: number.rounded(.towardZero)) != nil
    case .int8: Int8(exactly: number.rounded(.towardZero)) != nil
    default: UInt8(exactly: number.rounded(.towardZero)) != nil
    }
  }
}

extension FixedWidthInteger {
  /// The number without its fraction, or the nearest of this type.
  fileprivate init(clamping number: Double) {
    // What is not a number has been refused.
    self =
      Self(exactly: number.rounded(.towardZero)) ?? (number < 0 ? Self.min : Self.max)
  }
}

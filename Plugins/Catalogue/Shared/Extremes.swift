import Glibc
import LossdTensor

/// Where an infinity, a NaN or an overflow comes up on the way, the order of the operations decides what
/// comes out. There the functions follow torch's operations one by one, and round each to float32 where
/// torch computes in it; everywhere else they compute what is accurate.
struct Extremes {
  private let isSingle: Bool
  private let limit: Double

  /// For inputs of this type. 16-bit types are computed in a wider one and do not overflow inside.
  init(_ type: DataType) {
    isSingle = type == .float32
    limit = isSingle ? 1e30 : 1e300
  }

  /// Whether it is so large, or no number, that torch's operations have to be followed.
  @inline(__always)
  func contains(_ value: Double) -> Bool { !(value.magnitude < limit) }

  /// The result of one of torch's operations.
  @inline(__always)
  func callAsFunction(_ value: Double) -> Double { isSingle ? Double(Float(value)) : value }

  /// The value itself, or an infinity where torch's type has no such number.
  @inline(__always)
  func overflowing(_ value: Double) -> Double {
    contains(value) && isSingle && Float(value).isInfinite ? Double(Float(value)) : value
  }

  /// Whether a block of a vector path holds what the kernels need not get right.
  static func areIn(_ values: UnsafeRawPointer, _ type: DataType, _ count: Int) -> Bool {
    // Compared as integers without their signs, infinities and NaN are the largest.
    switch type {
    case .float64: reach(values, 1e300.bitPattern, count)
    case .float16: reach(values, Float16.infinity.bitPattern, count)
    case .bfloat16: reach(values, BFloat16(1e30 as Float).bitPattern, count)
    default: reach(values, (1e30 as Float).bitPattern, count)
    }
  }

  @inline(__always)
  private static func reach<Bits: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(
    _ values: UnsafeRawPointer, _ limit: Bits, _ count: Int
  ) -> Bool {
    let mask = Bits.max >> 1
    var found: Bits = 0
    for index in 0..<count {
      let bits = values.loadUnaligned(
        fromByteOffset: index * MemoryLayout<Bits>.size, as: Bits.self)
      found |= (bits & mask) >= limit ? 1 : 0
    }
    return found != 0
  }
}

/// log(1 / (1 + exp(-x))).
@inline(__always)
func logSigmoid(_ x: Double) -> Double { min(x, 0) - log1p(exp(-x.magnitude)) }

/// 1 / (1 + exp(-x)), also where x is far below 0.
@inline(__always)
func logistic(_ x: Double) -> Double {
  let small = exp(-x.magnitude)
  return x >= 0 ? 1 / (1 + small) : small / (1 + small)
}

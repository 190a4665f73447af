/// bfloat16: the upper half of a float32. Only for storage: arithmetic widens it first.
@frozen
public struct BFloat16: Sendable, Equatable, BitwiseCopyable {
  public var bitPattern: UInt16

  @inlinable public init(bitPattern: UInt16) { self.bitPattern = bitPattern }

  /// The nearest bfloat16, ties to even; NaN stays NaN.
  @inlinable public init(_ value: Float) {
    let bits = value.bitPattern
    if value != value {
      bitPattern = UInt16(truncatingIfNeeded: bits >> 16) | 0x0040
      return
    }
    bitPattern = UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ ((bits >> 16) & 1)) >> 16)
  }

  /// The nearest bfloat16, ties to even, rounded once: the way through float32 rounds to odd, which
  /// keeps what the second rounding has to know.
  @inlinable public init(_ value: Double) {
    var narrow = Float(value)
    if Double(narrow) != value && narrow.isFinite {
      var bits = narrow.bitPattern
      // Truncate towards zero where rounding went away from it, then set the sticky bit.
      if Double(narrow).magnitude > value.magnitude { bits &-= 1 }
      narrow = Float(bitPattern: bits | 1)
    }
    self.init(narrow)
  }

  @inlinable public var float: Float { Float(bitPattern: UInt32(bitPattern) << 16) }
}

/// A sum of float64 numbers that rounds nothing away: a fixed-point number that has room for every
/// float64, after Kulisch, "Computer Arithmetic and Validity" (2013), section 8. Sums of the same
/// numbers are equal however they were cut and in whatever order they were added, and `value` is
/// the float64 next to the true sum.
///
/// Infinities and NaN are remembered apart: the value is what float64's own addition gives.
public struct ExactSum: BitwiseCopyable, Sendable {
  /// 32 bits each from 2^-1074 on, with 64 bits above the largest float64.
  static let digitCount = 69
  private static let digitMask: Int64 = 0xffff_ffff
  /// An addition changes a digit by less than 2^33.
  private static let additionsMax: UInt32 = 1 << 29

  /// What else was added: NaN, infinity, -infinity.
  private struct Specials: OptionSet {
    let rawValue: UInt32
    static let nan = Specials(rawValue: 1)
    static let infinity = Specials(rawValue: 2)
    static let negativeInfinity = Specials(rawValue: 4)
  }

  private var digits = InlineArray<69, Int64>(repeating: 0)
  /// The digits that may be other than 0: first ... last.
  private var first: Int32 = Int32(digitCount)
  private var last: Int32 = -1
  /// Since carries were last taken on.
  private var additions: UInt32 = 0
  private var specials: UInt32 = 0

  public init() {}
  public init(_ value: Double) { add(value) }

  /// Makes it 0 again.
  @inline(__always)
  public mutating func clear() {
    var index = Int(first)
    while index <= Int(last) {
      digits[unchecked: index] = 0
      index &+= 1
    }
    (first, last) = (Int32(ExactSum.digitCount), -1)
    (additions, specials) = (0, 0)
  }

  @inline(__always)
  public mutating func add(_ value: Double) {
    let bits = value.bitPattern
    let exponent = Int(truncatingIfNeeded: bits >> 52) & 0x7ff
    var mantissa = Int64(bitPattern: bits & 0xf_ffff_ffff_ffff)
    if exponent == 0x7ff { return addSpecial(value) }
    if exponent == 0 && mantissa == 0 { return }
    if additions >= ExactSum.additionsMax { carry() }
    additions &+= 1
    // Of a subnormal number there is no leading 1, and its last bit is that of the smallest others.
    mantissa |= exponent == 0 ? 0 : 1 << 52
    let position = exponent == 0 ? 0 : exponent &- 1
    let (digit, shift) = (position &>> 5, Int64(position & 31))
    let low = (mantissa & ExactSum.digitMask) &<< shift
    let high = (mantissa &>> 32) &<< shift
    // 0, or -1 for a negative number: x ^ s - s.
    let sign = Int64(bitPattern: bits) &>> 63
    let parts = (
      low & ExactSum.digitMask, (low &>> 32) &+ (high & ExactSum.digitMask), high &>> 32
    )
    digits[unchecked: digit] &+= (parts.0 ^ sign) &- sign
    digits[unchecked: digit &+ 1] &+= (parts.1 ^ sign) &- sign
    digits[unchecked: digit &+ 2] &+= (parts.2 ^ sign) &- sign
    first = min(first, Int32(truncatingIfNeeded: digit))
    last = max(last, Int32(truncatingIfNeeded: digit &+ 2))
  }

  @inline(never)
  private mutating func addSpecial(_ value: Double) {
    specials |=
      (value.isNaN ? Specials.nan : value < 0 ? .negativeInfinity : .infinity).rawValue
  }

  /// Adds all that another sum has added.
  public mutating func merge(_ other: ExactSum) {
    specials |= other.specials
    if other.last < 0 { return }
    if additions &+ other.additions >= ExactSum.additionsMax { carry() }
    var other = other
    if additions &+ other.additions >= ExactSum.additionsMax { other.carry() }
    var index = Int(other.first)
    while index <= Int(other.last) {
      digits[unchecked: index] &+= other.digits[unchecked: index]
      index &+= 1
    }
    additions &+= other.additions &+ 1
    first = min(first, other.first)
    last = max(last, other.last)
  }

  /// Makes each digit but the last one 0 ..< 2^32, and the last one, which has the sign,
  /// -2^31 ..< 2^31; drops those that say nothing.
  private mutating func carry() {
    additions = 1
    if last < 0 { return }
    var index = Int(first)
    // The digit above the largest ends the walk: nothing that adds up in a lifetime reaches it.
    while index < ExactSum.digitCount &- 1 {
      let digit = digits[unchecked: index]
      let fits = digit >= -0x8000_0000 && digit < 0x8000_0000
      if index >= Int(last) && fits { break }
      digits[unchecked: index] = digit & ExactSum.digitMask
      digits[unchecked: index &+ 1] &+= digit &>> 32
      index &+= 1
    }
    last = max(last, Int32(truncatingIfNeeded: index))
    dropEnds()
  }

  private mutating func dropEnds() {
    while last >= first {
      let digit = digits[unchecked: Int(last)]
      if digit != 0 && digit != -1 { break }
      if last == first {
        if digit == 0 { (first, last) = (Int32(ExactSum.digitCount), -1) }
        break
      }
      // It says no more than the sign, which the digit below can have.
      let below = digits[unchecked: Int(last) &- 1]
      if digit == 0 && below >= 0x8000_0000 || digit == -1 && below < 0x8000_0000 { break }
      digits[unchecked: Int(last)] = 0
      digits[unchecked: Int(last) &- 1] = below &+ (digit &<< 32)
      last &-= 1
    }
    while first < last && digits[unchecked: Int(first)] == 0 { first &+= 1 }
  }

  /// The sum, rounded once to the nearest, ties to even; an infinity where it is too large.
  public var value: Double {
    var sum = self
    return sum.rounded()
  }

  /// The same; takes carries on, which no copy has to do then.
  public mutating func rounded() -> Double {
    if specials != 0 { return specialValue }
    if last < 0 { return 0 }
    carry()
    return carriedValue
  }

  private var specialValue: Double {
    switch Specials(rawValue: specials) {
    case .infinity: .infinity
    case .negativeInfinity: -.infinity
    default: .nan
    }
  }

  /// Of digits whose carries have been taken on.
  private var carriedValue: Double {
    if last < 0 { return 0 }
    let isNegative = digits[unchecked: Int(last)] < 0
    // The first 96 bits that there are, and whether there is anything below.
    let top = Int(last)
    var head: Int128 = 0
    for index in stride(from: top, through: max(top - 2, 0), by: -1) {
      head = head << 32 + Int128(index >= Int(first) ? digits[unchecked: index] : 0)
    }
    let lowest = max(top - 2, 0)
    var isRounded = false
    var index = Int(first)
    while index < lowest {
      isRounded = isRounded || digits[unchecked: index] != 0
      index += 1
    }
    // What is below counts upwards, from a negative number towards 0.
    var magnitude = UInt128(isNegative ? -head : head)
    if isNegative && isRounded { magnitude -= 1 }
    // 64 bits hold the 53 of a float64, and that something is below them in the last.
    let spare = 64 - magnitude.leadingZeroBitCount
    var bits = UInt64(truncatingIfNeeded: magnitude)
    if spare > 0 {
      bits = UInt64(truncatingIfNeeded: magnitude >> UInt128(spare))
      isRounded = isRounded || magnitude & (1 << UInt128(spare) - 1) != 0
    }
    if isRounded { bits |= 1 }
    let exponent = lowest * 32 - 1074 + max(spare, 0)
    let result = scaled(Double(bits), exponent)
    return isNegative ? -result : result
  }

  private func scaled(_ value: Double, _ exponent: Int) -> Double {
    // A number that is to be subnormal has no more bits than there are: nothing is rounded twice.
    if exponent >= -1022 && exponent <= 1023 {
      return value * Double(bitPattern: UInt64(exponent + 1023) << 52)
    }
    return Double(sign: .plus, exponent: exponent, significand: value)
  }

  // MARK: - Bytes

  /// The most that `bytes` takes.
  public static let byteCountMax = 4 + 4 * digitCount

  /// The sum in bytes, one way for each sum: what else was added (a byte: 1 NaN, 2 infinity, 4
  /// -infinity), the number of digits (a byte), the place of the first in units of 32 bits from
  /// 2^-1074 (a byte), 0, then the digits from the lowest, four bytes each, the last one signed;
  /// little-endian.
  public var bytes: [UInt8] {
    var sum = self
    sum.carry()
    let count = sum.last < 0 ? 0 : Int(sum.last - sum.first) + 1
    let place = count == 0 ? 0 : Int(sum.first)
    var result: [UInt8] = []
    result.reserveCapacity(4 + 4 * count)
    result.append(UInt8(truncatingIfNeeded: specials))
    result.append(UInt8(count))
    result.append(UInt8(place))
    result.append(0)
    for index in 0..<count {
      let digit = UInt32(truncatingIfNeeded: sum.digits[place + index])
      for shift in stride(from: UInt32(0), to: 32, by: 8) {
        result.append(UInt8(truncatingIfNeeded: digit >> shift))
      }
    }
    return result
  }

  /// What `bytes` has written; nil: nothing that it writes.
  public init?(_ bytes: UnsafeRawBufferPointer) {
    guard bytes.count >= 4, bytes[0] < 8, bytes[3] == 0 else { return nil }
    let (count, place) = (Int(bytes[1]), Int(bytes[2]))
    guard bytes.count == 4 + 4 * count, place + count <= ExactSum.digitCount else { return nil }
    specials = UInt32(bytes[0])
    if count == 0 { return }
    (first, last) = (Int32(place), Int32(place + count - 1))
    additions = 1
    for index in 0..<count {
      let digit = UInt32(
        littleEndian: bytes.loadUnaligned(fromByteOffset: 4 + 4 * index, as: UInt32.self))
      digits[place + index] = Int64(digit)
    }
    digits[Int(last)] = Int64(Int32(truncatingIfNeeded: digits[Int(last)]))
    var other = self
    other.dropEnds()
    guard other.first == first, other.last == last else { return nil }
  }
}

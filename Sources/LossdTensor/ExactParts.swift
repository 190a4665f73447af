/// Numbers whose sum is exactly that of many float32 or float64 numbers, which are added to an
/// `ExactSum` in the place of these.
///
/// Each number is cut at two places that are the same for all, so that what is added up at each
/// place are multiples of one power of two, few enough for float64 to add them without rounding:
/// Rump, Ogita and Oishi, "Accurate floating-point summation" (2008), section 3; Demmel and Nguyen,
/// "Parallel reproducible summation" (2015), section 3.
public struct ExactParts {
  /// The most numbers that are added up at once.
  @usableFromInline static let countMax = 1024
  /// With 2^e the power of two below the largest number, those below 2^(e - reach) take more parts.
  @usableFromInline static let (reachOfFloats, reachOfDoubles) = (105, 76)

  public var parts: (Double, Double, Double)

  /// nil: they take more parts than three; or there are infinities or NaN among them.
  @inlinable public init?(_ values: UnsafePointer<Float>, _ count: Int) {
    guard
      let parts = ExactParts(
        count, ExactParts.reachOfFloats, { SIMD4<Double>(values.vector($0)) },
        { Double(values[$0]) })
    else { return nil }
    self = parts
  }

  @inlinable public init?(_ values: UnsafePointer<Double>, _ count: Int) {
    guard
      let parts = ExactParts(
        count, ExactParts.reachOfDoubles, { values.vector($0) }, { values[$0] })
    else { return nil }
    self = parts
  }

  @inlinable @inline(__always)
  init?(
    _ count: Int, _ reach: Int, _ vector: (Int) -> SIMD4<Double>, _ number: (Int) -> Double
  ) {
    assert(count <= ExactParts.countMax)
    let whole = count & ~3
    // Behind the last whole vector.
    var rest = SIMD4<Double>()
    for index in whole..<count { rest[index &- whole] = number(index) }
    var (largest, smallest) = (SIMD4<Double>(), SIMD4<Double>(repeating: .infinity))
    @inline(__always)
    func look(_ value: SIMD4<Double>) {
      let magnitude = value.magnitude
      largest.replace(with: magnitude, where: magnitude .> largest)
      smallest.replace(with: magnitude, where: magnitude .< smallest .& magnitude .> 0)
    }
    var index = 0
    while index < whole {
      look(vector(index))
      index &+= 4
    }
    look(rest)
    let (most, least) = (largest.max(), smallest.min())
    let exponent = Swift.max(most.powerOfTwo, -900)
    guard exponent < 1000, least == .infinity || least.powerOfTwo >= exponent &- reach else {
      return nil
    }
    // Additions to these round to multiples of 2^(e - 42) and 2^(e - 84).
    let start = Double(powerOfTwo: exponent &+ 10) * 1.5
    let secondStart = Double(powerOfTwo: exponent &- 32) * 1.5
    var first = SIMD4<Double>(repeating: start)
    var second = SIMD4<Double>(repeating: secondStart)
    var third = SIMD4<Double>()
    @inline(__always)
    func add(_ value: SIMD4<Double>) {
      let sum = first + value
      let below = value - (sum - first)
      first = sum
      let secondSum = second + below
      third += below - (secondSum - second)
      second = secondSum
    }
    index = 0
    while index < whole {
      add(vector(index))
      index &+= 4
    }
    add(rest)
    parts = ((first - start).sum(), (second - secondStart).sum(), third.sum())
    // Of NaN.
    if !(parts.0 - parts.0 == 0) { return nil }
  }
}

extension UnsafePointer {
  @inlinable @inline(__always)
  func vector(_ index: Int) -> SIMD4<Pointee> where Pointee: SIMDScalar {
    UnsafeRawPointer(self + index).loadUnaligned(as: SIMD4<Pointee>.self)
  }
}

extension SIMD4<Double> {
  @inlinable @inline(__always)
  var magnitude: SIMD4<Double> {
    unsafeBitCast(
      unsafeBitCast(self, to: SIMD4<UInt64>.self) & SIMD4<UInt64>(repeating: 0x7fff_ffff_ffff_ffff),
      to: SIMD4<Double>.self)
  }
}

extension Double {
  /// The exponent of a number that is not negative; -1023 of what is subnormal or 0, 1024 of an
  /// infinity.
  @inlinable @inline(__always)
  var powerOfTwo: Int { Int(truncatingIfNeeded: bitPattern >> 52) &- 1023 }

  @inlinable @inline(__always)
  init(powerOfTwo exponent: Int) {
    self.init(bitPattern: UInt64(truncatingIfNeeded: exponent &+ 1023) << 52)
  }
}

extension ExactSum {
  /// Adds `count` numbers, as if one by one.
  public mutating func add(_ values: UnsafePointer<Double>, _ count: Int) {
    eachBlock(count) { sum, first, count in
      guard count >= 8, let exact = ExactParts(values + first, count) else {
        for index in first..<first &+ count { sum.add(values[index]) }
        return
      }
      sum.add(exact)
    }
  }

  public mutating func add(_ values: UnsafePointer<Float>, _ count: Int) {
    eachBlock(count) { sum, first, count in
      guard count >= 8, let exact = ExactParts(values + first, count) else {
        for index in first..<first &+ count { sum.add(Double(values[index])) }
        return
      }
      sum.add(exact)
    }
  }

  @inline(__always)
  private mutating func eachBlock(_ count: Int, _ body: (inout ExactSum, Int, Int) -> Void) {
    var first = 0
    while first < count {
      let taken = min(ExactParts.countMax, count &- first)
      body(&self, first, taken)
      first &+= taken
    }
  }

  @inline(__always)
  public mutating func add(_ exact: ExactParts) {
    add(exact.parts.0)
    if exact.parts.1 != 0 { add(exact.parts.1) }
    if exact.parts.2 != 0 { add(exact.parts.2) }
  }
}

// Three float64 numbers whose sum is exactly that of many: each number is cut at places that are the
// same for all, so that float64 adds up what is at each place without rounding (Rump, Ogita and Oishi,
// "Accurate floating-point summation", 2008, section 3). Types: numbers of the lanes' type. Range: see
// `addUpExactly`. Errors: none.
internal import CLossdLanes

#if LOSSD_DOUBLE
  private var exponentBits: Int { 52 }
  private var exponentBias: Int { 1023 }
  /// With 2^e the power of two below the largest magnitude, one from 2^(e - reach) on is held.
  private var reach: Int { 76 }
#else
  private var exponentBits: Int { 23 }
  private var exponentBias: Int { 127 }
  private var reach: Int { 63 }
#endif

/// Sets three float64 whose sum is that of `count` numbers, at most 1024; false where they take more:
/// with 2^e the power of two below the largest magnitude, where one is below 2^(e - 76) and not 0, of
/// float32 below 2^(e - 63), or where one is infinite, NaN or from 2^1000 on.
func addUpExactly(
  _ x: UnsafePointer<Scalar>, _ count: Int, _ parts: UnsafeMutablePointer<Double>
) -> Bool {
  let rest = count & (width &- 1)
  let whole = count &- rest
  var last = all(0)
  var lane = 0
  while lane < rest {
    last[lane] = x[whole &+ lane]
    lane &+= 1
  }
  let sign = Bits(repeating: Word.max)
  let lastBits = bits(last) & sign
  var (largest, smallest) = (lastBits, magnitudes_smaller(Bits(repeating: -1), lastBits))
  var i = 0
  while i < whole {
    let m = bits(fetch(x, i)) & sign
    largest = magnitudes_larger(largest, m)
    smallest = magnitudes_smaller(smallest, m)
    i &+= width
  }
  let (most, least) = (magnitudes_largest(largest), magnitudes_smallest(smallest))
  let top = Int(most &>> Word(exponentBits)) &- exponentBias
  let exponent = top < -900 ? -900 : top
  // 0: there is none but zeros. Subnormal numbers have the last digit of those above them.
  if least != 0 && Int(least &>> Word(exponentBits)) &- exponentBias < exponent &- reach {
    return false
  }
  // Infinities and NaN have the exponent above all others.
  if top >= (exponentBias > 1000 ? 1000 : exponentBias &+ 1) { return false }
  // Added to these, numbers are rounded to multiples of 2^(e - 42) and 2^(e - 84); up to 256 a lane
  // do not carry them to another power of two.
  var cut = Cut(1.5 * power(exponent &+ 10), 1.5 * power(exponent &- 32))
  let start = cut
  i = 0
  while i < whole {
    cut.add(wide_of(fetch(x, i)))
    i &+= width
  }
  cut.add(wide_of(last))
  parts[0] = wide_total(wide_subtract(cut.first, start.first))
  parts[1] = wide_total(wide_subtract(cut.second, start.second))
  parts[2] = wide_total(cut.third)
  return true
}

private struct Cut {
  var first: Wide
  /// Of float32 what is below the first place, in whose reach two places are enough.
  var second: Wide
  var third = allWide(0)

  @inline(__always)
  init(_ start: Double, _ secondStart: Double) {
    first = allWide(start)
    #if LOSSD_DOUBLE
      second = allWide(secondStart)
    #else
      second = allWide(0)
    #endif
  }

  @inline(__always)
  mutating func add(_ value: Wide) {
    let sum = wide_add(first, value)
    let below = wide_subtract(value, wide_subtract(sum, first))
    first = sum
    let secondSum = wide_add(second, below)
    #if LOSSD_DOUBLE
      third = wide_add(third, wide_subtract(below, wide_subtract(secondSum, second)))
    #endif
    second = secondSum
  }
}

@inline(__always)
private func power(_ exponent: Int) -> Double {
  Double(bitPattern: UInt64(truncatingIfNeeded: exponent &+ 1023) &<< 52)
}

/// A sum a lane in about twice the lanes' precision: what each addition rounds away is summed apart
/// (Knuth's TwoSum), since one float32 running sum over 50257 classes loses three digits.
struct Sums {
  var high = Lanes(repeating: 0)
  var low = Lanes(repeating: 0)

  @inline(always)
  mutating func add(_ value: Lanes) {
    let sum = high + value
    let part = sum - high
    low += (high - (sum - part)) + (value - part)
    high = sum
  }

  @inline(always)
  subscript(lane: Int) -> Double { Sums.joined(high[lane], low[lane]) }

  /// The sums rounded to the lanes' type.
  @inline(always)
  var narrowed: Lanes { high + low.replacing(with: 0, where: low - low .!= 0) }

  /// Where infinities or NaN were added, the rounding errors are NaN and the sum itself is right.
  @inline(always)
  private static func joined(_ high: Scalar, _ low: Scalar) -> Double {
    low - low == 0 ? Double(high) + Double(low) : Double(high)
  }
}

/// One sum in the same way, in float64.
struct RowTotal {
  var high = 0.0
  var low = 0.0

  @inline(always)
  mutating func add(_ value: Double) {
    let sum = high + value
    let part = sum - high
    low += (high - (sum - part)) + (value - part)
    high = sum
  }

  @inline(always)
  var value: Double { low - low == 0 ? high + low : high }

  /// Its logarithm: of a sum little over 1, what `high` alone would lose is in `low`.
  @inline(always)
  var logarithm: Double { low - low == 0 ? wideLog(high) + low / high : wideLog(high) }
}

/// All lanes' sum. Not inlined, and its argument in memory: reading lanes one by one next to a loop makes the
/// optimiser take the whole loop apart into lanes.
@inline(never)
func sumOfLanes(_ sums: inout Sums) -> RowTotal {
  var result = RowTotal()
  var lane = 0
  while lane < width {
    result.add(Double(sums.high[lane]))
    // Of an infinity or NaN these are NaN.
    let low = sums.low[lane]
    if low - low == 0 { result.low += Double(low) }
    lane &+= 1
  }
  return result
}

/// The largest lane; not inlined for the same reason.
@inline(never)
func largestLane(_ value: inout Lanes) -> Scalar {
  var result = value[0]
  var lane = 1
  while lane < width {
    result = value[lane] > result ? value[lane] : result
    lane &+= 1
  }
  return result
}

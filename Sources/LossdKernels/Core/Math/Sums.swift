// Sums in about twice the lanes' precision: one float32 running sum over 50257 classes would lose three
// digits.
internal import CLossdLanes

/// A sum of lifted exponentials, one a lane. It starts at the largest that there can be, so that what an
/// addition rounds away is a difference of the terms (Dekker's Fast2Sum, 1971), and is summed apart.
struct ExponentialSums {
  private var high = all(Format.lifted)
  private var low = all(0)

  @inline(__always)
  init() {}

  @inline(__always)
  mutating func add(_ value: Lanes) {
    let sum = high + value
    low = low + (value - (sum - high))
    high = sum
  }

  /// Each lane's sum, still lifted, in two parts, of which the first is the sum rounded.
  @inline(__always)
  var parts: (high: Lanes, low: Lanes) {
    // What a start at 1 has added is taken off exactly: both are multiples of the sum's last digit.
    let rest = high - Format.lifted
    let sum = rest + low
    return (sum, low - (sum - rest))
  }

  /// Each lane's sum, not lifted any more.
  @inline(__always)
  var wide: Wide {
    let (high, low) = parts
    return (wide_of(high) + wide_of(low)) * allWide(Double(Format.unlift))
  }

  /// The sum of all lanes, not lifted any more.
  @inline(__always)
  var total: RowTotal {
    #if LOSSD_DOUBLE
      let (high, low) = parts
      return RowTotal(high, low, times: Format.unlift)
    #else
      let sums = (wide_of(high) - allWide(Double(Format.lifted))) + wide_of(low)
      return RowTotal(high: wide_total(sums) * Double(Format.unlift))
    #endif
  }
}

/// A sum of any numbers, one a lane.
struct Sums {
  #if LOSSD_DOUBLE
    private var high = all(0)
    private var low = all(0)

    @inline(__always)
    mutating func add(_ value: Lanes) {
      // Knuth's TwoSum.
      let sum = high + value
      let part = sum - high
      low = low + ((high - (sum - part)) + (value - part))
      high = sum
    }

    @inline(__always)
    mutating func add(_ a: Lanes, times b: Lanes) { add(a * b) }

    /// (a - b) times c.
    @inline(__always)
    mutating func add(difference a: Lanes, _ b: Lanes, times c: Lanes) { add((a - b) * c) }

    @inline(__always)
    mutating func add(wide value: Wide) { add(value) }

    /// Each lane's sum.
    @inline(__always)
    var wide: Wide { lanes_pick(lanes_equal(low - low, all(0)), high + low, high) }

    @inline(__always)
    var total: Double { RowTotal(high, low, times: 1).value }
  #else
    private var sums = allWide(0)

    @inline(__always)
    mutating func add(_ value: Lanes) { sums = sums + wide_of(value) }

    @inline(__always)
    mutating func add(_ a: Lanes, times b: Lanes) { sums = sums + wide_of(a) * wide_of(b) }

    @inline(__always)
    mutating func add(wide value: Wide) { sums = sums + value }

    /// (a - b) times c.
    @inline(__always)
    mutating func add(difference a: Lanes, _ b: Lanes, times c: Lanes) {
      sums = sums + (wide_of(a) - wide_of(b)) * wide_of(c)
    }

    /// Each lane's sum.
    @inline(__always)
    var wide: Wide { sums }

    @inline(__always)
    var total: Double { wide_total(sums) }
  #endif

  @inline(__always)
  init() {}
}

/// One sum in float64, for float64 with what its additions rounded away.
struct RowTotal {
  var high = 0.0
  var low = 0.0

  @inline(__always)
  init(high: Double) { self.high = high }

  #if LOSSD_DOUBLE
    /// The sum of all lanes of two vectors, times a power of two.
    @inline(__always)
    init(_ a: Lanes, _ b: Lanes, times factor: Double) {
      var (sums, errors) = (a, b)
      var distance = width &>> 1
      while distance > 0 {
        // TwoSum again, of each lane and its partner.
        let other = wide_turned(sums, distance)
        let sum = sums + other
        let part = sum - sums
        errors = errors + wide_turned(errors, distance)
        errors = errors + ((sums - (sum - part)) + (other - part))
        sums = sum
        distance = distance &>> 1
      }
      high = sums[0] * factor
      low = errors[0] * factor
    }
  #endif

  /// Where infinities or NaN were added, the rounding errors are NaN and the sum itself is right.
  @inline(__always)
  var value: Double { low - low == 0 ? high + low : high }

  /// Its logarithm: of a sum little over 1, what `high` alone would lose is in `low`.
  @inline(__always)
  var logarithm: Double { low - low == 0 ? wideLog(high) + low / high : wideLog(high) }
}

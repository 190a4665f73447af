// What formulas want to know of sums of exponentials.
internal import CLossdLanes

extension RowTotal {
  /// What makes probabilities of lifted exponentials.
  @inline(__always)
  var factor: Scalar { Scalar(Double(Format.unlift) / value) }
}

extension ExponentialSums {
  /// The same of each row.
  @inline(__always)
  var factor: Lanes { all(1) / parts.high }

  /// Logarithms of sums that are at least 1, or NaN, in two parts: in the first a sum little over 1
  /// has lost what the second holds.
  @inline(__always)
  private var logarithms: (high: Lanes, low: Lanes) {
    let (high, low) = parts
    let sum = high * Format.unlift
    let logarithm = logOfAtLeastOne(sum)
    return (lanes_pick(lanes_equal(sum, sum), logarithm, sum), low / high)
  }

  /// The logarithm of each row's sum in the lanes' type.
  @inline(__always)
  var laneLogarithm: Lanes {
    let (high, low) = logarithms
    return high + low
  }

  /// The same in float64.
  @inline(__always)
  var logarithm: Wide {
    #if LOSSD_DOUBLE
      // libm's is nearer to the truth than the lanes'.
      let (high, low) = parts
      var result = high
      var lane = 0
      while lane < width {
        var total = RowTotal(high: high[lane] * Format.unlift)
        total.low = low[lane] * Format.unlift
        result[lane] = total.logarithm
        lane &+= 1
      }
      return result
    #else
      let (high, low) = logarithms
      return wide_of(high) + wide_of(low)
    #endif
  }
}

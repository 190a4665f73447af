/// Counts of durations, nanoseconds. A bucket is an eighth of a power of two wide, so every
/// percentile is at most an eighth too large. A histogram takes 4 KB.
struct Histogram: Sendable {
  private static let bucketCount = 64 * 8
  private(set) var count: UInt64 = 0
  private(set) var max: UInt64 = 0
  private var buckets = [UInt64](repeating: 0, count: Histogram.bucketCount)

  mutating func add(_ value: UInt64) {
    count += 1
    if value > max { max = value }
    buckets[Histogram.bucket(value)] += 1
  }

  mutating func add(_ other: Histogram) {
    count += other.count
    max = Swift.max(max, other.max)
    for index in buckets.indices { buckets[index] += other.buckets[index] }
  }

  /// The upper end of the bucket that holds the value of this rank: `share` of all values lie at or
  /// below. 0 where there are no values.
  func percentile(_ share: Double) -> UInt64 {
    if count == 0 { return 0 }
    let rank = Swift.max(1, UInt64((share * Double(count)).rounded(.up)))
    var seen: UInt64 = 0
    for index in buckets.indices {
      seen += buckets[index]
      if seen >= rank { return Swift.min(max, Histogram.upperEnd(index)) }
    }
    return max
  }

  private static func bucket(_ value: UInt64) -> Int {
    if value < 8 { return Int(value) }
    let octave = 63 - value.leadingZeroBitCount
    return octave * 8 + Int(value >> UInt64(octave - 3)) & 7
  }

  private static func upperEnd(_ bucket: Int) -> UInt64 {
    if bucket < 8 { return UInt64(bucket) }
    let octave = UInt64(bucket / 8)
    let low = (UInt64(8) + UInt64(bucket % 8)) << (octave - 3)
    // The last bucket ends at the largest number.
    return low + ((1 << (octave - 3)) - 1)
  }
}

/// Counts of durations in nanoseconds, in buckets a sixty-fourth of a power of two wide: any
/// percentile is right to 1.6 %, and adding one costs a few nanoseconds.
struct BenchHistogram: Sendable {
  private static let bits = 6
  private static let perOctave = 1 << bits

  private(set) var count: UInt64 = 0
  private(set) var max: UInt64 = 0
  private var sum = 0.0
  private var buckets = [UInt64](repeating: 0, count: (64 - bits + 1) * perOctave)

  var mean: Double { count == 0 ? 0 : sum / Double(count) }

  mutating func add(_ value: UInt64) {
    count += 1
    sum += Double(value)
    if value > max { max = value }
    buckets[BenchHistogram.bucket(value)] += 1
  }

  mutating func add(_ other: BenchHistogram) {
    count += other.count
    sum += other.sum
    max = Swift.max(max, other.max)
    for index in buckets.indices { buckets[index] += other.buckets[index] }
  }

  /// The value that this share of all lies at or below, to the upper end of its bucket; 0 of none.
  func percentile(_ share: Double) -> UInt64 {
    let rank = Swift.max(1, UInt64((share * Double(count)).rounded(.up)))
    var seen: UInt64 = 0
    for index in buckets.indices {
      seen += buckets[index]
      if seen >= rank { return Swift.min(max, BenchHistogram.upperEnd(index)) }
    }
    return max
  }

  /// How many lie at or below `limit`, to the width of a bucket.
  func count(upTo limit: UInt64) -> UInt64 {
    let last = BenchHistogram.bucket(limit)
    return buckets[...last].reduce(0, +)
  }

  /// The buckets that have any, by their upper ends.
  var filled: [(upTo: UInt64, count: UInt64)] {
    buckets.indices.lazy.filter { buckets[$0] > 0 }
      .map { (BenchHistogram.upperEnd($0), buckets[$0]) }
  }

  private static func bucket(_ value: UInt64) -> Int {
    if value < perOctave { return Int(value) }
    let octave = 63 - value.leadingZeroBitCount
    let inOctave = Int(value >> UInt64(octave - bits)) & (perOctave - 1)
    return (octave - bits + 1) * perOctave + inOctave
  }

  private static func upperEnd(_ bucket: Int) -> UInt64 {
    if bucket < perOctave { return UInt64(bucket) }
    let shift = UInt64(bucket / perOctave - 1)
    let low = UInt64(perOctave + bucket % perOctave) << shift
    // The last bucket ends at the largest number.
    return low + ((1 << shift) - 1)
  }
}

extension BenchHistogram {
  private static let barWidth = 40

  /// Bars in text, in steps of 1, 2, 5, 10: from the first step that has any to the last.
  var text: String {
    var edges: [UInt64] = []
    var decade: UInt64 = 100
    while decade <= 1_000_000_000_000 {
      edges += [decade, 2 * decade, 5 * decade]
      decade *= 10
    }
    var rows: [(from: UInt64, upTo: UInt64, count: UInt64)] = []
    var below: UInt64 = 0
    var from: UInt64 = 0
    for edge in edges {
      let upTo = count(upTo: edge)
      if upTo > below || !rows.isEmpty && upTo < count { rows.append((from, edge, upTo - below)) }
      (below, from) = (upTo, edge)
    }
    let most = rows.map(\.count).max() ?? 1
    return rows.map { row in
      let share = Double(row.count) / Double(Swift.max(count, 1))
      var width = Int(
        (Double(row.count) / Double(most) * Double(BenchHistogram.barWidth)).rounded())
      if row.count > 0 { width = Swift.max(width, 1) }
      let bar = String(repeating: "#", count: width)
      return "  " + right(BenchHistogram.microseconds(row.from), 8) + " - "
        + padded(BenchHistogram.microseconds(row.upTo), 8) + right(fixed(share * 100, 2), 7) + " % "
        + bar
    }.joined(separator: "\n")
  }

  private static func microseconds(_ nanoseconds: UInt64) -> String {
    nanoseconds % 1000 == 0
      ? "\(nanoseconds / 1000)" : fixed(Double(nanoseconds) / 1000, 1)
  }
}

/// Filled up with spaces on the left.
func right(_ text: String, _ width: Int) -> String {
  String(repeating: " ", count: max(width - text.count, 0)) + text
}

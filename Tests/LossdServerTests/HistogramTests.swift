import Testing

@testable import LossdServer

@Suite struct HistogramTests {
  @Test("a percentile is at most an eighth above a value of its rank, for values of every size")
  func percentiles() {
    var numbers = Numbers(seed)
    for _ in 0..<50 {
      var histogram = Histogram()
      var values: [UInt64] = []
      for _ in 0..<Int.random(in: 1...300, using: &numbers) {
        let value = numbers.next() >> UInt64.random(in: 0...63, using: &numbers)
        values.append(value)
        histogram.add(value)
      }
      values.sort()
      #expect(histogram.count == UInt64(values.count))
      #expect(histogram.max == values.last)
      for share in [0.0, 0.5, 0.9, 0.99, 0.999, 1.0] {
        let rank = max(1, Int((share * Double(values.count)).rounded(.up)))
        let (exact, found) = (values[rank - 1], histogram.percentile(share))
        #expect(
          found >= exact && found - exact <= exact / 8, "LOSSD_SEED=\(seed): \(share) of \(values)")
      }
    }
  }

  @Test("every percentile of nothing is 0, and the largest number has a bucket")
  func ends() {
    var histogram = Histogram()
    #expect(histogram.percentile(0.5) == 0)
    #expect(histogram.max == 0)
    histogram.add(.max)
    histogram.add(0)
    #expect(histogram.percentile(0.5) == 0)
    #expect(histogram.percentile(1) == .max)
  }

  @Test("two histograms added are that of all values")
  func sums() {
    var numbers = Numbers(seed)
    var (first, second, both) = (Histogram(), Histogram(), Histogram())
    for index in 0..<500 {
      let value = numbers.next() >> UInt64.random(in: 0...63, using: &numbers)
      if index % 3 == 0 { first.add(value) } else { second.add(value) }
      both.add(value)
    }
    first.add(second)
    #expect(first.count == both.count && first.max == both.max)
    for share in stride(from: 0.0, through: 1, by: 0.01) {
      #expect(first.percentile(share) == both.percentile(share), "LOSSD_SEED=\(seed): \(share)")
    }
  }
}

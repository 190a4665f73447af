import LossdTensor
import Testing

@Suite("Sums that round nothing away")
struct ExactSumTests {
  private func sum(_ values: [Double]) -> ExactSum {
    var sum = ExactSum()
    for value in values { sum.add(value) }
    return sum
  }

  private func anyNumber(_ source: inout SystemRandomNumberGenerator) -> Double {
    let value = Double(bitPattern: .random(in: 0...UInt64.max, using: &source))
    return value.isFinite ? value : .leastNonzeroMagnitude
  }

  @Test("the sum of few numbers is rounded once, to even where there is a tie")
  func rounding() {
    let half = 0x1p-53
    let least = Double.leastNonzeroMagnitude
    #expect(sum([1, half]).value == 1)
    #expect(sum([1, half, least]).value == 1 + 0x1p-52)
    #expect(sum([1 + 0x1p-52, half]).value == 1 + 0x1p-51)
    #expect(sum([-1, -half]).value == -1)
    #expect(sum([-1, -half, -least]).value == -(1 + 0x1p-52))
    #expect(sum([-1, half, -least]).value == -1 + half)
    #expect(sum([-1, half / 2, least]).value == -1 + half)
    #expect(sum([least, least, -least]).value == least)
    #expect(sum([.leastNormalMagnitude, -least]).value == (0.0 + .leastNormalMagnitude).nextDown)
    #expect(sum([]).value == 0 && sum([-0.0]).value.sign == .plus)
  }

  @Test("what would overflow on the way does not")
  func overflow() {
    let most = Double.greatestFiniteMagnitude
    #expect(sum([most, most, -most]).value == most)
    #expect(sum([most, most]).value == .infinity)
    #expect(sum([-most, -most]).value == -.infinity)
    #expect(
      sum(Array(repeating: most, count: 1000) + Array(repeating: -most, count: 999)).value == most)
  }

  @Test("infinities and NaN are as in float64's own addition")
  func specials() {
    #expect(sum([1, .infinity, 2]).value == .infinity)
    #expect(sum([-.infinity, 2]).value == -.infinity)
    #expect(sum([.infinity, -.infinity]).value.isNaN)
    #expect(sum([1, .nan]).value.isNaN)
    var merged = sum([.infinity])
    merged.merge(sum([-.infinity]))
    #expect(merged.value.isNaN)
    merged.clear()
    #expect(merged.value == 0)
  }

  @Test("sums that an Int128 holds are those of whole numbers")
  func wholeNumbers() {
    var source = SystemRandomNumberGenerator()
    for _ in 0..<2000 {
      var exact: Int128 = 0
      var mine = ExactSum()
      for _ in 0..<Int.random(in: 1...40, using: &source) {
        let whole = Int64.random(in: -(1 << 53)...(1 << 53), using: &source)
        let shift = Int.random(in: 0...60, using: &source)
        exact += Int128(whole) << Int128(shift)
        mine.add(Double(whole) * Double(sign: .plus, exponent: shift - 30, significand: 1))
      }
      #expect(mine.value == Double(exact) * 0x1p-30)
    }
  }

  @Test("any cut and any order give the same bytes, and all taken off again gives 0")
  func order() {
    var source = SystemRandomNumberGenerator()
    for _ in 0..<300 {
      var values = (0..<Int.random(in: 1...200, using: &source)).map { _ in anyNumber(&source) }
      let whole = sum(values)
      values.shuffle(using: &source)
      var parts = [ExactSum()]
      for value in values {
        if Int.random(in: 0..<4, using: &source) == 0 { parts.append(ExactSum()) }
        parts[.random(in: parts.indices, using: &source)].add(value)
      }
      while parts.count > 1 {
        let part = parts.remove(at: .random(in: parts.indices, using: &source))
        parts[.random(in: parts.indices, using: &source)].merge(part)
      }
      #expect(parts[0].bytes == whole.bytes)
      #expect(parts[0].value.bitPattern == whole.value.bitPattern)
      for value in values.shuffled(using: &source) { parts[0].add(-value) }
      #expect(parts[0].bytes == [0, 0, 0, 0])
    }
  }

  @Test("millions of additions of the largest digits lose no carry")
  func carries() {
    var mine = ExactSum()
    let value = Double(UInt64(1) << 53 - 1)
    for _ in 0..<3_000_000 { mine.add(value) }
    mine.add(0.5)
    for _ in 0..<2_999_999 { mine.add(-value) }
    #expect(mine.value == value + 0.5)
  }

  @Test("bytes give the sum back, and nothing else is taken for bytes of one")
  func bytes() {
    var source = SystemRandomNumberGenerator()
    for _ in 0..<500 {
      var mine = sum((0..<5).map { _ in anyNumber(&source) })
      if Bool.random(using: &source) { mine.add(.infinity) }
      let bytes = mine.bytes
      let again = bytes.withUnsafeBytes { ExactSum($0) }
      #expect(again?.bytes == bytes)
      #expect(again?.value.bitPattern == mine.value.bitPattern)
      #expect(bytes.dropLast().withUnsafeBytes { ExactSum($0) } == nil)
      #expect((bytes + [0]).withUnsafeBytes { ExactSum($0) } == nil)
    }
    let wrong: [[UInt8]] = [
      [], [0, 0, 0], [8, 0, 0, 0], [0, 0, 0, 1], [0, 1, 69, 0, 1, 0, 0, 0],
      // A digit that says nothing: below, above, above a negative number; a zero of one digit.
      [0, 2, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], [0, 2, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
      [0, 2, 0, 0, 1, 0, 0, 0x80, 255, 255, 255, 255], [0, 1, 5, 0, 0, 0, 0, 0],
    ]
    for bytes in wrong { #expect(bytes.withUnsafeBytes { ExactSum($0) } == nil, "\(bytes)") }
    // Random bytes trap nothing, whatever is done with them.
    for _ in 0..<2000 {
      let count = UInt8.random(in: 0...70, using: &source)
      var bytes: [UInt8] = [.random(in: 0...7), count, .random(in: 0...70), 0]
      bytes += (0..<4 * Int(count)).map { _ in .random(in: 0...255, using: &source) }
      guard var sum = bytes.withUnsafeBytes({ ExactSum($0) }) else { continue }
      for _ in 0..<10 { sum.merge(sum) }
      _ = (sum.value, sum.bytes)
    }
  }

  @Test("many numbers at once are what they are one by one")
  func parts() {
    var source = SystemRandomNumberGenerator()
    var taken = 0
    for round in 0..<600 {
      let spread = [5, 20, 60, 300][round % 4]
      let count = Int.random(in: 0...1100, using: &source)
      let floats = (0..<count).map { _ in
        Float.random(in: -1...1, using: &source)
          * Float(
            sign: .plus, exponent: -.random(in: 0...min(spread, 140), using: &source),
            significand: 1)
      }
      let doubles = floats.map { Double($0) * Double.random(in: 0.5...1, using: &source) }
      var one = ExactSum()
      one.add(floats, count)
      #expect(one.bytes == sum(floats.map(Double.init)).bytes)
      one = ExactSum()
      one.add(doubles, count)
      #expect(one.bytes == sum(doubles).bytes)
      if count <= 1024, ExactParts(floats, count) != nil { taken += 1 }
    }
    #expect(taken > 300, "three parts hold most sums")
    for special in [Double.nan, .infinity, .greatestFiniteMagnitude] {
      var values = [Double](repeating: 1, count: 100)
      values[50] = special
      #expect(ExactParts(values, 100) == nil)
      var one = ExactSum()
      one.add(values, 100)
      #expect(one.value.bitPattern == sum(values).value.bitPattern)
    }
  }
}

import LossdKernelTable
import LossdTensor
import Testing

@Suite("The kernels' sums that round nothing away")
struct ExactSumKernelTests {
  @Test(
    "three numbers have the sum of all, or it is told that they have not", arguments: KernelCase.all
  )
  func parts(_ item: KernelCase) {
    var source = SeededGenerator()
    let isDouble = item.kind == .float64
    var (taken, refused) = (0, 0)
    for round in 0..<2000 {
      let count = Int.random(in: 0...1024, using: &source)
      let spread = [4, 40, 70, 200][round % 4]
      let values = (0..<count).map { _ in
        Int.random(in: 0..<5, using: &source) == 0
          ? 0
          : Double(Float.random(in: -1...1, using: &source))
            * Double(
              sign: .plus, exponent: -.random(in: 0...min(spread, 120), using: &source),
              significand: 1)
            * (isDouble ? Double.random(in: 0.5...1, using: &source) : 1)
      }
      let numbers = isDouble ? values : values.map { Double(Float($0)) }
      var exact = ExactSum()
      for value in numbers { exact.add(value) }
      var parts = [Double](repeating: .nan, count: 3)
      let isExact =
        isDouble
        ? item.table.exactSum(numbers, count, &parts)
        : item.table.exactSum(numbers.map { Float($0) }, count, &parts)
      if !isExact {
        refused += 1
        continue
      }
      taken += 1
      var sum = ExactSum()
      for part in parts { sum.add(part) }
      #expect(sum.bytes == exact.bytes, "\(item) \(count) numbers over 2^\(spread)")
    }
    #expect(taken > 1000 && refused > 100, "\(item): \(taken) and \(refused)")
  }

  @Test("infinities and NaN are told", arguments: KernelCase.all)
  func specials(_ item: KernelCase) {
    for special in [Double.nan, .infinity, -.infinity] {
      for place in [0, 7, 98, 99] {
        var values = [Double](repeating: 1, count: 100)
        values[place] = special
        var parts = [0.0, 0, 0]
        #expect(
          item.kind == .float64
            ? !item.table.exactSum(values, 100, &parts)
            : !item.table.exactSum(values.map { Float($0) }, 100, &parts))
      }
    }
  }
}

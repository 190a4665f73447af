import Foundation
import LossdKernelTable
import LossdKernels
import Testing

/// exp, log and log1p: a sample here, every float32 with `make test-exhaustive`.
@Suite struct ElementaryTests {
  private static let builds = Kernels.all

  @Test(
    "exp, log and log1p of a sample of all float32 are within 2 ulp", arguments: builds.indices)
  func sample(build index: Int) {
    let build = ElementaryTests.builds[index]
    // A prime step over the bit patterns visits every exponent, with mantissas of all kinds.
    let x = stride(from: UInt64(0), through: UInt64(UInt32.max), by: 20011).map {
      Float(bitPattern: UInt32($0))
    }
    check("\(build.name) exp", build.float32.exp, x) { Foundation.exp($0) }
    check("\(build.name) log", build.float32.log, x) { Foundation.log($0) }
    check("\(build.name) log1p", build.float32.log1p, x) { Foundation.log1p($0) }
  }

  @Test("exp, log and log1p of special values", arguments: builds.indices)
  func specials(build index: Int) {
    let build = ElementaryTests.builds[index]
    let x: [Float] = [
      .nan, .infinity, -.infinity, 0, -0.0, 0x1p-149, -0x1p-149, 0x1p-126, 1, -1, -1.0000001,
      88.72283, 88.72284, -87.33655, -103.97207, -103.9721, -104.5, .greatestFiniteMagnitude,
      -.greatestFiniteMagnitude, -0.99999994,
    ]
    check("\(build.name) exp", build.float32.exp, x) { Foundation.exp($0) }
    check("\(build.name) log", build.float32.log, x) { Foundation.log($0) }
    check("\(build.name) log1p", build.float32.log1p, x) { Foundation.log1p($0) }
  }

  private func check(
    _ name: String, _ kernel: KernelTable.Elementwise, _ x: [Float],
    _ truth: (Double) -> Double
  ) {
    var y = [Float](repeating: 7, count: x.count + 1)
    kernel(x, &y, x.count)
    #expect(y[x.count] == 7, "written past the end")
    for place in x.indices {
      let exact = truth(Double(x[place]))
      let rounded = Float(exact)
      let isGood: Bool
      if rounded.isNaN {
        isGood = y[place].isNaN
      } else if rounded.isInfinite || exact == 0 {
        isGood = y[place].bitPattern == rounded.bitPattern
      } else {
        isGood = (Double(y[place]) - exact).magnitude <= 2 * Double(rounded.ulp)
      }
      if !isGood {
        Issue.record("\(name)(\(x[place])) is \(y[place]), expected \(exact)")
      }
    }
  }

  @Test("exp times a factor is rounded once more", arguments: KernelCase.all)
  func weighted(_ item: KernelCase) {
    var source = SeededGenerator()
    for factor in [1, -1.5, 0.375, .nan] {
      for count in Array(0...20) + [300] {
        let x = Sample(item.kind, (0..<count).map { _ in .random(in: -9...9, using: &source) })
        let y = Sample(item.kind, count: count)
        item.table.weightedExp(x.raw, y.raw, count, factor)
        #expect(y.isIntact, "written past the end")
        for i in 0..<count {
          expectClose(
            y[i], Truth(factor) * exp(Truth(x[i])), item.kind, "\(item) \(factor) exp(\(x[i]))")
        }
      }
    }
  }

  @Test("float64: exp, log and log1p are within 2 ulp of Float80", arguments: builds.indices)
  func wide(build index: Int) {
    #if arch(x86_64)
      let table = ElementaryTests.builds[index].float64
      let name = ElementaryTests.builds[index].name
      var source = SeededGenerator()
      var x: [Double] = [
        .nan, .infinity, -.infinity, 0, -0.0, 0x1p-1074, -0x1p-1074, 0x1p-1022, 1, -1,
        -1.0000000000000002, 709.782712893384, 709.7827128933841, -708.4, -745.13, -745.2, 1e308,
      ]
      // All exponents alike, then where the functions do something.
      for _ in 0..<100_000 { x.append(Double(bitPattern: source.next())) }
      for _ in 0..<100_000 { x.append(Double.random(in: -746...710, using: &source)) }
      for _ in 0..<100_000 { x.append(Double.random(in: -1...4, using: &source)) }
      checkWide("\(name) exp", table.exp, x) { Foundation.exp($0) }
      checkWide("\(name) log", table.log, x) { Foundation.log($0) }
      checkWide("\(name) log1p", table.log1p, x) { Foundation.log1p($0) }
    #endif
  }

  #if arch(x86_64)
    private func checkWide(
      _ name: String, _ kernel: KernelTable.Elementwise, _ x: [Double],
      _ truth: (Float80) -> Float80
    ) {
      var y = [Double](repeating: 7, count: x.count)
      kernel(x, &y, x.count)
      var worst: Float80 = 0
      for place in x.indices {
        let exact = truth(Float80(x[place]))
        let rounded = Double(exact)
        if rounded.isNaN || rounded.isInfinite || exact == 0 {
          let isSame = rounded.isNaN ? y[place].isNaN : y[place] == rounded
          #expect(isSame, "\(name)(\(x[place])) is \(y[place]), expected \(rounded)")
          continue
        }
        worst = max(worst, (Float80(y[place]) - exact).magnitude / Float80(rounded.ulp))
      }
      print("\(name): \(worst) ulp")
      #expect(worst <= 2, "\(name)")
    }
  #endif
}

import Foundation
import LossdKernelTable
import LossdKernels
import Testing

/// gelu and smooth_l1 with their derivatives against the truth.
@Suite struct FormulaTests {
  @Test("gelu and its slope, far into both tails", arguments: KernelCase.all)
  func gelu(_ item: KernelCase) {
    var source = SeededGenerator()
    let reach = item.kind == .float64 ? 38.0 : item.kind == .float16 ? 6 : 14
    var values = (0..<4000).map { _ in
      Double.random(in: -1...1, using: &source)
        * [1, 4, reach][Int.random(in: 0..<3, using: &source)]
    }
    values += [.nan, .infinity, -.infinity, 0, -0.0, -0.75179, 60000, -60000, 0x1p-24]
    let x = Sample(item.kind, values, misplaced: 1)
    let (y, z) = (Sample(item.kind, count: x.count), Sample(item.kind, count: x.count))
    run(item, .gelu, x, y, z)
    for i in 0..<x.count {
      let a = Truth(x[i])
      let (below, density) = (erfc(-a * Truth(0.5).squareRoot()) / 2, normalDensity(a))
      // torch has -inf times 0.
      expectClose(y[i], a * below, ulps: 4, item.kind, "\(item) gelu(\(a))")
      expectClose(
        z[i], below + a * density, term: a.isFinite ? max(below, (a * density).magnitude) : 0,
        ulps: 4, item.kind, "\(item) gelu'(\(a))")
    }
    run(item, .gelu, x, x, nil)
    #expect(zip(x.values, y.values).allSatisfy { $0 == $1 || $0.isNaN && $1.isNaN })
  }

  @Test("gelu by tanh and its slope", arguments: KernelCase.all)
  func geluTanh(_ item: KernelCase) {
    var source = SeededGenerator()
    var values = (0..<4000).map { _ in Double.random(in: -9...9, using: &source) }
    values += [.nan, .infinity, -.infinity, 0, 60000, -60000]
    let x = Sample(item.kind, values)
    let (y, z) = (Sample(item.kind, count: x.count), Sample(item.kind, count: x.count))
    run(item, .geluTanh, x, y, z)
    for i in 0..<x.count {
      let a = Truth(x[i])
      let twice = (8 / Truth.pi).squareRoot()
      let k = Truth(0.044715)
      let u = twice * a * (1 + k * a * a)
      let (p, q) = (1 / (1 + exp(-u)), 1 / (1 + exp(u)))
      // exp multiplies the error of its argument.
      let ulps = 4 + 4 * min(u.magnitude, 200)
      expectClose(
        y[i], a * p, ulps: a < 0 ? ulps : 4, item.kind, "\(item) gelu_tanh(\(a))")
      let inner = a.isFinite ? twice * (1 + 3 * k * a * a) : .infinity
      let part = a.isFinite && p * q == 0 ? 0 : a * p * q * inner
      expectClose(
        z[i], p + part, term: part.isFinite ? part.magnitude : 0, ulps: ulps, item.kind,
        "\(item) gelu_tanh'(\(a))")
    }
  }

  @Test(
    "smooth_l1 and both of its slopes, the corner and beta 0 included", arguments: KernelCase.all)
  func smoothL1(_ item: KernelCase) {
    var source = SeededGenerator()
    for beta in [0, 0.25, 1, 3.5] {
      for count in Array(1...20) + [1000] {
        let x = Sample(
          item.kind, (0..<count).map { _ in Double.random(in: -4...4, using: &source) })
        let y = x.copy()
        for i in 0..<count where i % 3 != 0 { y[i] = Double.random(in: -4...4, using: &source) }
        x[count / 2] = beta
        y[count / 2] = 0
        let losses = Sample(item.kind, count: count)
        let (slopes, ofY) = (Sample(item.kind, count: count), Sample(item.kind, count: count))
        var call = ElementCall(
          .smoothL1, x: x.raw, y: y.raw, values: losses.raw, slopes: slopes.raw,
          slopesOfY: ofY.raw, constants: ElementConstants(beta), scale: 0.5, count: count)
        let sum = item.table.total(&call, isDouble: item.kind == .float64)
        var total: Truth = 0
        for i in 0..<count {
          let (a, b, c) = (Truth(x[i]), Truth(y[i]), Truth(beta))
          let d = a - b
          let near = d.magnitude < c
          let loss = near ? d * d / (2 * c) : d.magnitude - c / 2
          let slope: Truth = near ? d / c : d > 0 ? 1 : d < 0 ? -1 : 0
          total += loss
          let name = "\(item) smooth_l1(\(a), \(b), beta \(c))"
          expectClose(losses[i], loss, ulps: 4, item.kind, name)
          expectClose(slopes[i], slope / 2, item.kind, name + " slope")
          #expect(ofY[i] == -slopes[i], "\(name)")
        }
        expectClose(
          sum, total, ulps: 4, item.kind == .float64 ? .float64 : .float32, "\(item) sum")
        #expect(losses.isIntact && slopes.isIntact && ofY.isIntact, "written past the end")
      }
    }
  }

  @Test(
    "log_cosh and quantile, which torch has not, with both of their slopes",
    arguments: KernelCase.all)
  func distances(_ item: KernelCase) {
    var source = SeededGenerator()
    for scale in [1e-3, 1, 30] {
      let x = Sample(
        item.kind, (0..<500).map { _ in Double.random(in: -scale...scale, using: &source) })
      let y = Sample(
        item.kind, (0..<500).map { _ in Double.random(in: -scale...scale, using: &source) })
      for formula in [ElementFormulaID.logCosh, .quantile] {
        let (values, slopes) = (Sample(item.kind, count: 500), Sample(item.kind, count: 500))
        let ofY = Sample(item.kind, count: 500)
        var call = ElementCall(
          formula, x: x.raw, y: y.raw, values: values.raw, slopes: slopes.raw, slopesOfY: ofY.raw,
          constants: ElementConstants(0.25, -0.75), count: 500)
        _ = item.table.elements(&call)
        for i in 0..<500 {
          // What is computed from is the difference as it is rounded in the lanes.
          let wide = x[i] - y[i]
          let d = Truth(item.kind == .float64 ? wide : Double(Float(wide)))
          let half = expm1(d.magnitude)
          let value: Truth
          let slope: Truth
          if formula == .logCosh {
            (value, slope) = (log1p(half * half / (2 * (half + 1))), tanh(d))
          } else {
            value = d < 0 ? -d / 4 : d * 3 / 4
            slope = d < 0 ? -0.25 : d > 0 ? 0.75 : 0
          }
          let name = "\(item) \(formula) of \(d)"
          expectClose(values[i], value, ulps: 5, item.kind, name)
          expectClose(slopes[i], slope, ulps: 4, item.kind, name + " slope")
          #expect(ofY[i] == -slopes[i], "\(name)")
        }
      }
    }
  }

  private func normalDensity(_ x: Truth) -> Truth {
    exp(-x * x / 2) / (2 * Truth.pi).squareRoot()
  }

  private func run(
    _ item: KernelCase, _ formula: ElementFormulaID, _ x: Sample, _ values: Sample,
    _ slopes: Sample?
  ) {
    var call = ElementCall(
      formula, x: x.raw, values: values.raw, slopes: slopes?.raw, count: x.count)
    _ = item.table.elements(&call)
  }
}

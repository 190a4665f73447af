import Foundation
import LossdKernelTable
import LossdKernels
import Testing

/// The binary losses with their gradients against the truth.
@Suite struct BinaryTests {
  /// Random arguments of one call.
  private struct Arguments {
    let x: Sample
    let target: Sample
    var weight: Sample?
    var posWeight: Sample?
    var upstream: Sample?
    let isStreamed: Bool

    init(
      _ kind: Kind, _ x: [Double], _ target: [Double], hasExtras: Bool, _ misplaced: Int,
      _ source: inout SeededGenerator
    ) {
      self.x = Sample(kind, x, misplaced: misplaced)
      self.target = Sample(kind, target)
      isStreamed = Bool.random(using: &source)
      guard hasExtras else { return }
      weight = Sample(kind, x.map { _ in Double.random(in: 0.1...3, using: &source) })
      posWeight = Sample(kind, x.map { _ in Double.random(in: 0.1...5, using: &source) })
      upstream = Sample(kind, x.map { _ in Double.random(in: -2...2, using: &source) })
    }

    func run(
      _ formula: ElementFormulaID, _ table: KernelTable, losses: Sample?, gradient: Sample?
    ) -> Double {
      let isWeighted = formula == .binaryLogits && posWeight != nil
      var call = ElementCall(
        isWeighted ? .weightedBinaryLogits : formula, x: x.raw, y: target.raw, z: posWeight?.raw,
        weight: weight?.raw, upstream: upstream?.raw, values: losses?.raw, slopes: gradient?.raw,
        scale: 0.5, count: x.count, isStreamed: isStreamed)
      let sum = table.total(&call, isDouble: x.kind == .float64)
      table.settle()
      return sum
    }
  }

  @Test("binary cross entropy with logits", arguments: KernelCase.all)
  func logits(_ item: KernelCase) {
    var source = SeededGenerator()
    for count in Array(1...33) + [1000] {
      for hasExtras in [false, true] {
        let x = (0..<count).map { _ in Double.random(in: -60...60, using: &source) }
        let y = (0..<count).map { _ in [0, 1, 0.25, 0.875][Int.random(in: 0..<4, using: &source)] }
        let misplaced = Int.random(in: 0..<3, using: &source)
        let set = Arguments(item.kind, x, y, hasExtras: hasExtras, misplaced, &source)
        let losses = Sample(item.kind, count: count, misplaced: misplaced)
        let gradient = Sample(item.kind, count: count, misplaced: misplaced)
        let sum = set.run(.binaryLogits, item.table, losses: losses, gradient: gradient)
        #expect(losses.isIntact && gradient.isIntact, "written past the end")
        var total: Truth = 0
        for i in 0..<count {
          let (a, b) = (Truth(set.x[i]), Truth(set.target[i]))
          let p = Truth(set.posWeight?[i] ?? 1)
          let w = Truth(set.weight?[i] ?? 1)
          let small = log1p(exp(-a.magnitude))
          let (near, far) = (max(-a, 0) + small, max(a, 0) + small)
          let loss: Truth = w * (b * p * near + (1 - b) * far)
          total += loss
          let name = "\(item) x \(a), y \(b), p \(p), of \(count)"
          expectClose(
            losses[i], loss, term: (b == 0 || b == 1) && !hasExtras ? 0 : a.magnitude * p * w,
            ulps: 5, item.kind, name)
          let (s, t) = (1 / (1 + exp(-a)), 1 / (1 + exp(a)))
          let scale = 0.5 * w * Truth(set.upstream?[i] ?? 1)
          let slope: Truth = (1 - b) * s - p * b * t
          expectClose(
            gradient[i], scale * slope,
            term: b == 0 || b == 1 ? 0 : scale.magnitude * max(s, p * t), ulps: 6, item.kind,
            name + " gradient")
        }
        expectClose(
          sum, total, ulps: 4, item.kind == .float64 ? .float64 : .float32,
          "\(item) sum of \(count)")
        check(item, set, .binaryLogits, losses, gradient, sum)
      }
    }
  }

  /// The same results without losses, without gradient, and in place.
  private func check(
    _ item: KernelCase, _ set: Arguments, _ formula: ElementFormulaID, _ losses: Sample,
    _ gradient: Sample, _ sum: Double
  ) {
    let onlyLosses = Sample(item.kind, count: set.x.count)
    #expect(set.run(formula, item.table, losses: onlyLosses, gradient: nil) == sum)
    #expect(onlyLosses.values == losses.values, "\(item), without gradient")
    #expect(set.run(formula, item.table, losses: nil, gradient: set.x) == sum)
    #expect(set.x.values == gradient.values, "\(item), in place")
  }

  @Test("what the stack holds is no part of a sum", arguments: KernelCase.all)
  func padding(_ item: KernelCase) {
    let formulas: [ElementFormulaID] = [.binaryLogits, .weightedBinaryLogits, .binaryCrossEntropy]
    for formula in formulas {
      for count in 1..<20 {
        let half = Sample(item.kind, [Double](repeating: 0.5, count: count))
        var sums: [Double] = []
        for byte in [0, 0x41, 0xFF] as [UInt8] {
          soil(byte)
          var call = ElementCall(formula, x: half.raw, y: half.raw, z: half.raw, count: count)
          sums.append(item.table.total(&call, isDouble: item.kind == .float64))
        }
        #expect(sums[0].isFinite && sums[1] == sums[0] && sums[2] == sums[0], "\(item) \(count)")
      }
    }
  }

  /// Fills the stack below the caller.
  @inline(never)
  private func soil(_ byte: UInt8) {
    withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 64) {
      $0.initializeMemory(as: UInt8.self, repeating: byte)
      withExtendedLifetime($0) {}
    }
  }

  @Test("infinities and NaN among logits reach the sum", arguments: KernelCase.all)
  func extremes(_ item: KernelCase) {
    for special in [Double.nan, .infinity, -.infinity] {
      for y in [0.0, 1, 0.25] {
        for count in [5, 40] {
          let x = Sample(item.kind, [Double](repeating: 0.5, count: count))
          x[3] = special
          let target = Sample(item.kind, [Double](repeating: y, count: count))
          var call = ElementCall(.binaryLogits, x: x.raw, y: target.raw, count: count)
          #expect(!item.table.elements(&call).isFinite, "\(item) \(special), target \(y)")
        }
      }
    }
  }

  @Test("binary cross entropy of probabilities, the clamp included", arguments: KernelCase.all)
  func probabilities(_ item: KernelCase) {
    var source = SeededGenerator()
    for count in Array(1...33) + [2000] {
      var x = (0..<count).map { _ in
        let value = Double.random(in: 0...1, using: &source)
        return [value, value * 1e-10, 1 - value * 1e-5, value * 0x1p-133][
          Int.random(in: 0..<4, using: &source)]
      }
      x[0] = [0, 1, 0x1p-149, 1 - 0x1p-24][count % 4]
      let y = x.map { _ in [0, 1, 0.25, 0.875][Int.random(in: 0..<4, using: &source)] }
      let misplaced = Int.random(in: 0..<3, using: &source)
      let set = Arguments(item.kind, x, y, hasExtras: false, misplaced, &source)
      let losses = Sample(item.kind, count: count, misplaced: misplaced)
      let gradient = Sample(item.kind, count: count, misplaced: misplaced)
      let sum = set.run(
        .binaryCrossEntropy, item.table, losses: losses, gradient: gradient)
      #expect(losses.isIntact && gradient.isIntact, "written past the end")
      var total: Truth = 0
      for i in 0..<count {
        let (a, b) = (Truth(set.x[i]), Truth(set.target[i]))
        let (near, far) = (max(log(a), -100), max(log1p(-a), -100))
        let loss: Truth = -(b * near + (1 - b) * far)
        total += loss
        let name = "\(item) x \(a), y \(b)"
        expectClose(losses[i], loss, term: -b * near, ulps: 3, item.kind, name)
        let denominator = max(a * (1 - a), Truth(1e-12 as Float))
        let slope: Truth = 0.5 * (a - b) / denominator
        expectClose(gradient[i], slope, ulps: 4, item.kind, name + " gradient")
      }
      expectClose(
        sum, total, ulps: 3, item.kind == .float64 ? .float64 : .float32,
        "\(item) sum of \(count)")
      checkRange(item, set, count)
      check(item, set, .binaryCrossEntropy, losses, gradient, sum)
    }
  }

  /// A probability or target outside [0, 1] makes the sum NaN.
  private func checkRange(_ item: KernelCase, _ set: Arguments, _ count: Int) {
    for bad in [Double.nan, 1.125, -0x1p-24, .infinity] {
      for isTarget in [false, true] {
        let x = set.x.copy()
        let y = set.target.copy()
        (isTarget ? y : x)[count / 2] = bad
        var call = ElementCall(.binaryCrossEntropy, x: x.raw, y: y.raw, count: count)
        #expect(item.table.elements(&call).isNaN, "\(item) \(bad) among \(count)")
      }
    }
  }
}

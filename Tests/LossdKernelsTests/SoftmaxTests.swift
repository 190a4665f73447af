import Foundation
import LossdKernelTable
import LossdKernels
import Testing

/// Softmax, log-softmax and their gradients against the truth: sizes around the lanes', both
/// layouts, in place, past the cache, with special values.
@Suite struct SoftmaxTests {
  private static let sizes =
    Array(1...18) + [31, 32, 33, 34, 47, 48, 49, 63, 64, 65, 70, 257, 1003]

  private func row(_ count: Int, _ source: inout SeededGenerator) -> [Double] {
    let scale = [1.0, 10, 200, 0][Int.random(in: 0..<4, using: &source)]
    var values = (0..<count).map { _ in Double.random(in: -1...1, using: &source) * scale }
    // One row in eight has something special in it.
    if count > 0, Int.random(in: 0..<8, using: &source) == 0 {
      let special: [Double] = [
        .nan, .infinity, -.infinity, 6e4, -6e4, 0x1p-149, -0.0, 104, -104, -103.97, -87.4,
      ]
      values[Int.random(in: 0..<count, using: &source)] =
        special[Int.random(in: 0..<special.count, using: &source)]
    }
    return values
  }

  private func run(
    _ item: KernelCase, _ layout: Layout, _ x: Sample, upstream: Sample? = nil,
    output: Sample? = nil, gradient: Sample? = nil, isLogarithmic: Bool, isStreamed: Bool
  ) {
    layout.withScratch(item.kind) { scratch in
      var call = RowCall(
        isLogarithmic ? .logSoftmax : .softmax, x: x.raw, y: upstream?.raw, values: output?.raw,
        gradient: gradient?.raw, rows: layout.strided, scratch: scratch, isStreamed: isStreamed)
      item.table.rows(&call)
    }
    item.table.settle()
  }

  @Test("softmax and log-softmax of rows and columns", arguments: KernelCase.all)
  func forward(_ item: KernelCase) {
    var source = SeededGenerator()
    for size in SoftmaxTests.sizes {
      for (count, isColumns) in [(1, false), (8, true), (19, false), (19, true), (70, true)]
      where size < 1000 || count < 20 {
        let layout = Layout(rows: count, size: size, isColumns: isColumns)
        let data = (0..<count).map { _ in row(size, &source) }
        let misplaced = Int.random(in: 0..<3, using: &source)
        let x = Sample(item.kind, layout.flat(data), misplaced: misplaced)
        for isLogarithmic in [false, true] {
          let y = Sample(item.kind, count: layout.count, misplaced: misplaced)
          let isStreamed = Bool.random(using: &source)
          run(item, layout, x, output: y, isLogarithmic: isLogarithmic, isStreamed: isStreamed)
          #expect(y.isIntact, "written past the end")
          check(item, layout, x, y, isLogarithmic)
          let inPlace = x.copy()
          run(
            item, layout, inPlace, output: inPlace, isLogarithmic: isLogarithmic,
            isStreamed: isStreamed)
          #expect(
            zip(inPlace.values, y.values).allSatisfy { $0 == $1 || $0.isNaN && $1.isNaN },
            "\(item) \(layout), in place")
        }
      }
    }
  }

  private func check(
    _ item: KernelCase, _ layout: Layout, _ x: Sample, _ y: Sample, _ isLogarithmic: Bool
  ) {
    for r in 0..<layout.rows {
      let data = layout.row(x, r)
      let truth = softmaxTruth(data, logarithmic: isLogarithmic)
      let finite = data.filter { $0.isFinite && $0.magnitude < 1e30 }
      let term = isLogarithmic ? Truth((finite.map(\.magnitude).max() ?? 0) * 2) : 0
      for c in 0..<layout.size {
        // x - max is rounded in the lanes' type, as in torch: half an ulp of it in exp's argument.
        let distance = Truth(data.max() ?? 0) - Truth(data[c])
        let ulps = isLogarithmic ? 3 : 3 + (distance.isFinite ? distance : 0)
        expectClose(
          y[layout.place(r, c)], truth[c], term: term, ulps: ulps, item.kind,
          "\(item) \(layout) [\(r), \(c)] of \(data[c]), logarithmic \(isLogarithmic)")
      }
    }
  }

  @Test("the gradients of softmax and log-softmax", arguments: KernelCase.all)
  func gradients(_ item: KernelCase) {
    var source = SeededGenerator()
    for size in Array(1...18) + [31, 32, 33, 65, 300] {
      for (count, isColumns) in [(9, false), (9, true), (37, false), (37, true)] {
        let layout = Layout(rows: count, size: size, isColumns: isColumns)
        let x = Sample(
          item.kind, (0..<layout.count).map { _ in Double.random(in: -5...5, using: &source) })
        let g = Sample(
          item.kind, (0..<layout.count).map { _ in Double.random(in: -2...2, using: &source) })
        for isLogarithmic in [false, true] {
          for hasUpstream in [false, true] {
            let isStreamed = Bool.random(using: &source)
            let upstream = hasUpstream ? g : nil
            let y = Sample(item.kind, count: layout.count)
            let z = Sample(item.kind, count: layout.count)
            run(
              item, layout, x, upstream: upstream, output: y, gradient: z,
              isLogarithmic: isLogarithmic, isStreamed: isStreamed)
            #expect(y.isIntact && z.isIntact, "written past the end")
            check(item, layout, x, y, isLogarithmic)
            checkGradient(item, layout, x, upstream, z, isLogarithmic)
            // Alone, and over the input.
            let alone = x.copy()
            run(
              item, layout, alone, upstream: upstream, gradient: alone,
              isLogarithmic: isLogarithmic, isStreamed: isStreamed)
            #expect(alone.values == z.values, "\(item) \(layout), alone and in place")
            let both = x.copy()
            let other = Sample(item.kind, count: layout.count)
            run(
              item, layout, both, upstream: upstream, output: both, gradient: other,
              isLogarithmic: isLogarithmic, isStreamed: isStreamed)
            #expect(
              both.values == y.values && other.values == z.values,
              "\(item) \(layout), output in place")
          }
        }
      }
    }
  }

  private func checkGradient(
    _ item: KernelCase, _ layout: Layout, _ x: Sample, _ upstream: Sample?, _ z: Sample,
    _ isLogarithmic: Bool
  ) {
    for r in 0..<layout.rows {
      let p = softmaxTruth(layout.row(x, r), logarithmic: false)
      let up = upstream.map { layout.row($0, r).map { Truth($0) } } ?? p.map { _ in 1 }
      let dot = zip(p, up).reduce(Truth(0)) { $0 + (isLogarithmic ? $1.1 : $1.0 * $1.1) }
      for c in 0..<layout.size {
        let truth = isLogarithmic ? up[c] - p[c] * dot : p[c] * (up[c] - dot)
        let term =
          isLogarithmic ? max(2, (p[c] * dot).magnitude) : p[c] * max(2, dot.magnitude)
        expectClose(
          z[layout.place(r, c)], truth, term: term, ulps: 15, item.kind,
          """
          \(item) \(layout) [\(r), \(c)], logarithmic \(isLogarithmic), \
          upstream \(upstream != nil)
          """
        )
      }
    }
  }

  @Test("sums of exponentials and their multiples", arguments: KernelCase.all)
  func parts(_ item: KernelCase) {
    var source = SeededGenerator()
    let kind: Kind = item.kind == .float64 ? .float64 : .float32
    for count in Array(1...40) + [1000] {
      let x = Sample(
        kind, (0..<count).map { _ in Double.random(in: -30...5, using: &source) })
      var maximum = 0.0
      let sum = item.table.sumOfExponentials(x.raw, count, &maximum)
      #expect(maximum == x.values.max())
      let truth = x.values.reduce(Truth(0)) { $0 + exp(Truth($1) - Truth(maximum)) }
      expectClose(sum, truth, ulps: 4, kind, "\(item) \(count)")
      let y = Sample(kind, count: count)
      item.table.scaledExponentials(x.raw, y.raw, count, maximum, 1e-3)
      #expect(y.isIntact, "written past the end")
      for i in 0..<count {
        let value = exp(Truth(x[i]) - Truth(maximum)) * 1e-3
        expectClose(y[i], value, ulps: 40, kind, "\(item) \(count) [\(i)]")
      }
    }
  }

  @Test(
    "blocks of rows across memory give the results of the whole rows", arguments: KernelCase.all)
  func blocks(_ item: KernelCase) {
    var source = SeededGenerator()
    for (size, columns) in [(5, 16), (40, 17), (33, 64), (70, 50)] {
      let layout = Layout(rows: columns, size: size, isColumns: true)
      let misplaced = Int.random(in: 0..<3, using: &source)
      let x = Sample(
        item.kind, (0..<layout.count).map { _ in Double.random(in: -8...8, using: &source) },
        misplaced: misplaced)
      let g = Sample(
        item.kind, (0..<layout.count).map { _ in Double.random(in: -2...2, using: &source) })
      for isLogarithmic in [false, true] {
        for upstream in [nil, g] {
          let numbers = BlockNumbers(item, layout, x, upstream, isLogarithmic)
          let y = Sample(item.kind, count: layout.count, misplaced: misplaced)
          let z = Sample(item.kind, count: layout.count, misplaced: misplaced)
          let isStreamed = Bool.random(using: &source)
          numbers.write(y, z, isStreamed)
          #expect(y.isIntact && z.isIntact, "written past the end")
          check(item, layout, x, y, isLogarithmic)
          checkGradient(item, layout, x, upstream, z, isLogarithmic)
          let alone = Sample(item.kind, count: layout.count, misplaced: misplaced)
          numbers.write(alone, nil, isStreamed)
          #expect(alone.values == y.values, "\(item) \(layout), without gradient")
          numbers.write(nil, alone, isStreamed)
          #expect(alone.values == z.values, "\(item) \(layout), without output")
          // Over the input, the output or the gradient.
          let other = Sample(item.kind, count: layout.count)
          let first = x.copy()
          BlockNumbers(item, layout, first, upstream, isLogarithmic).write(first, other, isStreamed)
          #expect(first.values == y.values && other.values == z.values, "\(item), in place")
          let second = x.copy()
          BlockNumbers(item, layout, second, upstream, isLogarithmic).write(
            other, second, isStreamed)
          #expect(second.values == z.values && other.values == y.values, "\(item), in place")
        }
      }
    }
  }
}

/// One block that is all of its rows, with what is known of these.
private final class BlockNumbers {
  private let item: KernelCase
  private var block: RowCall
  private let scratch: UnsafeMutableRawPointer
  private let maxima: UnsafeMutablePointer<Double>
  private let sums: UnsafeMutablePointer<Double>
  private let shares: UnsafeMutablePointer<Double>
  private let kept: (Sample, Sample?)

  init(
    _ item: KernelCase, _ layout: Layout, _ x: Sample, _ upstream: Sample?, _ isLogarithmic: Bool
  ) {
    self.item = item
    kept = (x, upstream)
    maxima = .allocate(capacity: layout.rows)
    sums = .allocate(capacity: layout.rows)
    shares = .allocate(capacity: layout.rows)
    scratch = .allocate(
      byteCount: StridedRows.blockScratchBytes(columns: layout.rows), alignment: 64)
    block = RowCall(
      isLogarithmic ? .logSoftmax : .softmax, x: x.raw, y: upstream?.raw,
      rows: StridedRows(count: layout.rows, size: layout.size, step: 1, stride: layout.rows),
      scratch: scratch, step: .blockSums,
      sums: BlockSums(maxima: maxima, sums: sums, dots: shares))
    item.table.rows(&block)
    block.step = .blockResults
    for row in 0..<layout.rows {
      switch (isLogarithmic, upstream == nil) {
      case (true, true): shares[row] = Double(layout.size)
      case (true, false): break
      case (false, true): shares[row] = 1
      case (false, false): shares[row] /= sums[row]
      }
    }
  }

  deinit {
    maxima.deallocate()
    sums.deallocate()
    shares.deallocate()
    scratch.deallocate()
  }

  func write(_ output: Sample?, _ gradient: Sample?, _ isStreamed: Bool) {
    (block.values, block.gradient, block.isStreamed) = (output?.raw, gradient?.raw, isStreamed)
    item.table.rows(&block)
    item.table.settle()
  }
}

import Foundation
import LossdKernelTable
import LossdKernels
import Testing

/// sigmoid, conversions and labels.
@Suite struct ElementwiseTests {
  @Test("sigmoid and its gradient, specials included", arguments: KernelCase.all)
  func sigmoid(_ item: KernelCase) {
    var source = SeededGenerator()
    let reach = item.kind == .float64 ? 760.0 : 120
    for count in Array(0...40) + [1000] {
      var values = (0..<count).map { _ in
        Double.random(in: -1...1, using: &source)
          * [1, 30, reach][Int.random(in: 0..<3, using: &source)]
      }
      for (place, value) in [
        Double.nan, .infinity, -.infinity, 0, -0.0, 88, -88, reach, -reach, 0x1p-24, -87.4,
        // Its slope as e times the square of the inverse of 1 + e is 4.04 ulp off in float32.
        -1.866_065_025_329_589_8,
      ]
      .enumerated() where place < count && count % 3 == 0 { values[place] = value }
      let misplaced = Int.random(in: 0..<3, using: &source)
      let x = Sample(item.kind, values, misplaced: misplaced)
      let g = Sample(
        item.kind, (0..<count).map { _ in Double.random(in: -2...2, using: &source) })
      let isStreamed = Bool.random(using: &source)
      let y = Sample(item.kind, count: count, misplaced: misplaced)
      let z = Sample(item.kind, count: count, misplaced: misplaced)
      run(item, x, nil, y, z, isStreamed)
      #expect(y.isIntact && z.isIntact, "written past the end")
      let alone = Sample(item.kind, count: count)
      run(item, x, nil, alone, nil, isStreamed)
      let weighed = Sample(item.kind, count: count)
      run(item, x, g, nil, weighed, isStreamed)
      let inPlace = x.copy()
      let slopes = Sample(item.kind, count: count)
      run(item, inPlace, g, inPlace, slopes, isStreamed)
      for i in 0..<count {
        let name = "\(item) sigmoid(\(x[i])) of \(count)"
        let truth: Truth = 1 / (1 + exp(-Truth(x[i])))
        expectClose(y[i], truth, item.kind, name)
        expectClose(alone[i], truth, item.kind, name + " alone")
        #expect(isSame(inPlace[i], y[i]), "\(name) in place")
        let small = exp(-Truth(x[i].magnitude))
        let slope = x[i].isInfinite ? 0 : small / ((1 + small) * (1 + small))
        expectClose(z[i], slope, ulps: 4, item.kind, name + " slope")
        expectClose(weighed[i], slope * Truth(g[i]), ulps: 5, item.kind, name + " upstream")
        #expect(isSame(slopes[i], weighed[i]), "\(name) upstream, in place")
      }
    }
  }

  @Test("a NaN of any bits stays one", arguments: KernelCase.all.filter { $0.kind.isNarrow })
  func payloads(_ item: KernelCase) {
    let first: UInt16 = item.kind == .float16 ? 0x7C01 : 0x7F81
    for bits in [first...0x7FFF, (first | 0x8000)...0xFFFF] {
      let x = Array(bits)
      var y = [UInt16](repeating: 0, count: x.count)
      x.withUnsafeBytes { x in
        y.withUnsafeMutableBytes { y in
          guard let x = x.baseAddress, let y = y.baseAddress else { return }
          var call = ElementCall(.sigmoid, x: x, values: y, count: bits.count)
          _ = item.table.elements(&call)
        }
      }
      #expect(y.allSatisfy { $0 & 0x7FFF >= first }, "\(item)")
    }
  }

  private func isSame(_ a: Double, _ b: Double) -> Bool {
    // The two ways to the output differ by an ulp.
    a.isNaN && b.isNaN || a == b || (a - b).magnitude <= 0x1p-6 * a.magnitude
  }

  private func run(
    _ item: KernelCase, _ x: Sample, _ upstream: Sample?, _ output: Sample?, _ gradient: Sample?,
    _ isStreamed: Bool
  ) {
    var call = ElementCall(
      .sigmoid, x: x.raw, upstream: upstream?.raw, values: output?.raw, slopes: gradient?.raw,
      count: x.count, isStreamed: isStreamed)
    _ = item.table.elements(&call)
    item.table.settle()
  }

  @Test("16-bit types convert exactly and round to nearest even", arguments: Kernels.all.indices)
  func conversions(_ index: Int) {
    let build = Kernels.all[index]
    let halves = (0...UInt16.max).map { $0 }
    for kind in [Kind.float16, .bfloat16] {
      let table = kind.table(build)
      var wide = [Float](repeating: 0, count: halves.count)
      table.widen(halves, &wide, halves.count)
      var back = [UInt16](repeating: 0, count: halves.count)
      table.narrow(wide, &back, halves.count)
      for place in halves.indices {
        let value =
          kind == .float16
          ? Float(Float16(bitPattern: halves[place]))
          : Float(bitPattern: UInt32(halves[place]) << 16)
        #expect(value.isNaN ? wide[place].isNaN : wide[place].bitPattern == value.bitPattern)
        let isNaN =
          halves[place] & 0x7FFF > (kind == .float16 ? 0x7C00 : 0x7F80)
        if !isNaN { #expect(back[place] == halves[place], "\(build.name) \(kind)") }
      }
      checkRounding(build, kind, wide)
    }
  }

  /// Between all neighbours: nearer to one, nearer to the other, and half way.
  private func checkRounding(_ build: KernelBuild, _ kind: Kind, _ wide: [Float]) {
    let finite = wide.filter { $0.isFinite && $0 >= 0 }
    var between: [Float] = []
    for (low, high) in zip(finite, finite.dropFirst()) {
      let middle = low + (high - low) / 2
      between += [middle.nextDown, middle, middle.nextUp]
    }
    between +=
      between.map { -$0 } + [
        .nan, Float(bitPattern: 0x7FFF_FFFF), 3.4e38, .greatestFiniteMagnitude, 65519.996, 65520,
      ]
    var narrow = [UInt16](repeating: 0, count: between.count)
    kind.table(build).narrow(between, &narrow, between.count)
    for (value, result) in zip(between, narrow) {
      if value.isNaN {
        #expect(result & 0x7FFF > (kind == .float16 ? 0x7C00 : 0x7F80))
        continue
      }
      var expected = UInt16(truncatingIfNeeded: value.bitPattern >> 16)
      if kind == .float16 {
        expected = Float16(value).bitPattern
      } else {
        let rest = value.bitPattern & 0xFFFF
        if rest > 0x8000 || rest == 0x8000 && expected & 1 == 1 { expected += 1 }
      }
      if result != expected {
        Issue.record("\(build.name) \(kind) of \(value): \(result), \(expected)")
      }
    }
  }

  @Test("labels are checked and ignored ones marked", arguments: Kernels.all.indices)
  func labels(_ index: Int) {
    let table = Kernels.all[index].float32
    var source = SeededGenerator()
    for count in Array(0...20) + [100, 257] {
      for ignored in [Int64(-100), 3, 255, -1, 1 << 40] {
        var targets = (0..<count).map { _ in Int64.random(in: 0..<10, using: &source) }
        for place in targets.indices where place % 5 == 0 {
          if (0...255).contains(ignored) { targets[place] = ignored }
        }
        let expected = targets.map { $0 == ignored ? Int32(-1) : Int32($0) }
        let kept = targets.filter { $0 != ignored }.count
        check(table, targets, .int64, ignored, expected, kept)
        check(table, targets.map { Int32($0) }, .int32, ignored, expected, kept)
        check(table, targets.map { UInt8($0) }, .uint8, ignored, expected, kept)
        guard count > 0 else { continue }
        for bad in [Int64(10), -2, 1 << 33, .min] where bad != ignored {
          targets[count / 2] = bad
          check(table, targets, .int64, ignored, nil, -1)
          if let narrow = Int32(exactly: bad) {
            check(
              table, targets.map { $0 == bad ? narrow : Int32($0) }, .int32, ignored, nil, -1)
          }
          if let narrow = UInt8(exactly: bad) {
            check(
              table, targets.map { $0 == bad ? narrow : UInt8($0) }, .uint8, ignored, nil, -1)
          }
        }
      }
    }
  }

  private func check<T>(
    _ table: KernelTable, _ targets: [T], _ kind: LabelBlock.Kind, _ ignored: Int64,
    _ expected: [Int32]?, _ kept: Int
  ) {
    var labels = [Int32](repeating: 7, count: targets.count + 1)
    let result = targets.withUnsafeBytes { bytes in
      labels.withUnsafeMutableBufferPointer { labels in
        guard let targets = bytes.baseAddress, let base = labels.baseAddress else { return kept }
        var block = LabelBlock(
          targets: targets, kind: kind, count: bytes.count / MemoryLayout<T>.size,
          ignored: ignored, classes: 10, labels: base)
        return table.labels(&block)
      }
    }
    #expect(result == kept, "\(kind), \(targets), ignoring \(ignored)")
    #expect(labels[targets.count] == 7, "written past the end")
    if let expected { #expect(Array(labels.dropLast()) == expected) }
  }
}

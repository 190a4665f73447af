// Every kernel of every type over values of all magnitudes, its results given to `emit`. Embedded
// Swift, so that it can be built for a processor whose standard library is not at hand: see run.sh.
import LossdKernelTable

/// Writes bytes of results.
@_extern(c, "emit") func emit(_ bytes: UnsafeRawPointer, _ count: Int)

/// What table.swift gives out.
@_extern(c, "kernels_of_float") func kernelsOfFloat() -> UnsafeMutableRawPointer
@_extern(c, "kernels_of_double") func kernelsOfDouble() -> UnsafeMutableRawPointer
@_extern(c, "kernels_of_half") func kernelsOfHalf() -> UnsafeMutableRawPointer
@_extern(c, "kernels_of_bfloat") func kernelsOfBFloat() -> UnsafeMutableRawPointer

@_cdecl("check_kernels")
public func checkKernels() {
  Check(kernelsOfFloat().load(as: KernelTable.self), bytes: 4).all()
  Check(kernelsOfDouble().load(as: KernelTable.self), bytes: 8).all()
  Check(kernelsOfHalf().load(as: KernelTable.self), bytes: 2).all()
  Check(kernelsOfBFloat().load(as: KernelTable.self), bytes: 2).all()
}

/// Elements or numbers, zeros at first, with room for a vector more.
struct Memory {
  let base: UnsafeMutableRawPointer
  let count: Int
  let size: Int

  init(_ count: Int, _ size: Int) {
    base = .allocate(byteCount: count * size + 64, alignment: 64)
    base.initializeMemory(as: UInt8.self, repeating: 0, count: count * size + 64)
    self.count = count
    self.size = size
  }

  func doubles() -> UnsafeMutablePointer<Double> { base.assumingMemoryBound(to: Double.self) }

  /// As results: every NaN is the same one.
  func tell(isElement: Bool = true) {
    if isElement { canonise() }
    emit(base, count * size)
    base.deallocate()
  }

  private func canonise() {
    for index in 0..<count {
      switch size {
      case 8:
        let at = base.assumingMemoryBound(to: Double.self) + index
        if at.pointee.isNaN { at.pointee = .nan }
      case 4:
        let at = base.assumingMemoryBound(to: Float.self) + index
        if at.pointee.isNaN { at.pointee = .nan }
      default: break
      }
    }
  }
}

let activations: [ElementFormulaID] = [
  .sigmoid, .gelu, .geluTanh, .relu, .hardTanh, .threshold, .leakyRelu, .hardSigmoid, .hardSwish,
  .hardShrink,
  .softShrink, .elu, .selu, .silu, .mish, .softplus, .logSigmoid, .tanh, .tanhshrink, .softsign,
  .erf, .erfc,
  .normalDistribution, .log1p, .expm1, .exp2, .logit, .entropy, .logNormalDistribution, .sinc,
]

struct Check {
  let table: KernelTable
  let bytes: Int

  init(_ table: KernelTable, bytes: Int) {
    self.table = table
    self.bytes = bytes
  }

  var lanesBytes: Int { max(bytes, 4) }

  /// Elements evenly between two values, the same ones each time.
  func elements(_ count: Int, _ low: Double, _ high: Double, seed: UInt64 = 1) -> Memory {
    let wide = Memory(count, lanesBytes)
    var state = seed
    for index in 0..<count {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      let value = low + (high - low) * Double(state >> 11) * 0x1p-53
      if lanesBytes == 8 {
        wide.doubles()[index] = value
      } else {
        wide.base.assumingMemoryBound(to: Float.self)[index] = Float(value)
      }
    }
    if bytes == lanesBytes { return wide }
    let narrow = Memory(count, bytes)
    table.narrow(wide.base, narrow.base, count)
    wide.base.deallocate()
    return narrow
  }

  /// Numbers of every exponent and both signs, infinities and NaN among them.
  func everyMagnitude(_ count: Int) -> Memory {
    let memory = Memory(count, bytes)
    var state: UInt64 = 7
    for index in 0..<count {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      let at = memory.base + index * bytes
      switch bytes {
      case 8: at.storeBytes(of: state, as: UInt64.self)
      case 4: at.storeBytes(of: UInt32(truncatingIfNeeded: state >> 32), as: UInt32.self)
      default: at.storeBytes(of: UInt16(truncatingIfNeeded: state >> 48), as: UInt16.self)
      }
    }
    return memory
  }

  func all() {
    elementary()
    alignments()
    for count in [1, 7, 8, 33, 1000] { elementwise(count) }
    for (rows, size) in [(1, 1), (3, 2), (17, 10), (9, 32), (5, 33), (7, 1000), (3, 5003)] {
      rowwise(rows, size, StridedRows(count: rows, size: size, step: size, stride: 1))
    }
    for (rows, size) in [(16, 10), (40, 3), (33, 200)] {
      rowwise(rows, size, StridedRows(count: rows, size: size, step: 1, stride: rows))
      columns(rows, size)
    }
  }

  func elementary() {
    let count = 20_000
    let x = everyMagnitude(count)
    for function in [table.exp, table.log, table.log1p] {
      let y = Memory(count, bytes)
      function(x.base, y.base, count)
      // 16-bit NaN keep what bits they have; the others are made one.
      y.tell(isElement: bytes >= 4)
    }
    let y = Memory(count, bytes)
    table.weightedExp(x.base, y.base, count, -0.3)
    y.tell(isElement: bytes >= 4)
    if bytes == 2 {
      let wide = Memory(count, 4)
      table.widen(x.base, wide.base, count)
      let back = Memory(count, 2)
      table.narrow(wide.base, back.base, count)
      wide.tell()
      back.tell(isElement: false)
    }
    x.base.deallocate()
  }

  func elementwise(_ count: Int) {
    let (x, g) = (elements(count, -120, 120), elements(count, -2, 2, seed: 3))
    let p = elements(count, 0, 1, seed: 5)
    for isStreamed in [false, true] {
      for formula in activations {
        let (y, d) = (Memory(count, bytes), Memory(count, bytes))
        var activation = ElementCall(
          formula, x: x.base, upstream: g.base, values: y.base, slopes: d.base, count: count,
          isStreamed: isStreamed)
        _ = table.elements(&activation)
        table.settle()
        y.tell()
        d.tell()
      }
      for formula in [
        ElementFormulaID.binaryLogits, .weightedBinaryLogits, .binaryCrossEntropy, .absoluteError,
        .squaredError, .smoothL1, .huber, .logCosh, .quantile, .divergence, .divergenceOfLogs,
        .poissonOfLog, .poisson, .softMargin, .hingeEmbedding, .sigmoidFocal, .asymmetric,
        .pairwiseSigmoid, .gaussian, .marginRanking, .prelu, .glu, .xLogY, .xLog1pY,
      ] {
        let (losses, gradient) = (Memory(count, bytes), Memory(count, bytes))
        let (ofTarget, ofThird) = (Memory(count, bytes), Memory(count, bytes))
        let total = Memory(1, 8)
        var loss = ElementCall(
          formula, x: formula == .binaryCrossEntropy ? p.base : x.base, y: p.base, z: p.base,
          weight: p.base, upstream: g.base, values: losses.base, slopes: gradient.base,
          slopesOfY: ofTarget.base, slopesOfZ: ofThird.base,
          constants: ElementConstants(0.5, 2, 0.05, 1e-8), scale: 0.25, count: count,
          isStreamed: isStreamed)
        let each = Memory(count, 8)
        loss.losses = each.base
        _ = table.elements(&loss)
        table.settle()
        var parts = [0.0, 0.0, 0.0]
        if table.exactSum(each.base, min(count, 1024), &parts) {
          total.doubles()[0] = parts[0] + parts[1] + parts[2]
        }
        each.base.deallocate()
        for memory in [total, losses, gradient, ofTarget, ofThird] { memory.tell() }
      }
    }
    for memory in [x, g, p] { memory.base.deallocate() }
  }

  func rowwise(_ count: Int, _ size: Int, _ rows: StridedRows) {
    let all = count * size
    let (x, g) = (elements(all, -30, 30), elements(all, -2, 2, seed: 3))
    let (t, w) = (elements(all, 0, 1, seed: 5), elements(size, 0.1, 2, seed: 9))
    let scratch = Memory(
      StridedRows.scratchBytes(size: size, isContiguous: rows.stride == 1, isDouble: bytes == 8)
        + 64,
      1)
    for isLogarithmic in [false, true] {
      let (y, d) = (Memory(all, bytes), Memory(all, bytes))
      var softmax = RowCall(
        isLogarithmic ? .logSoftmax : .softmax, x: x.base, y: g.base, values: y.base,
        gradient: d.base, rows: rows, scratch: scratch.base)
      table.rows(&softmax)
      y.tell()
      d.tell()
    }
    let labels = self.labels(count, size)
    let (weights, scales) = (Memory(count, 8), Memory(count, 8))
    for row in 0..<count {
      weights.doubles()[row] = 0.5 + Double(row % 3)
      scales.doubles()[row] = 1 - Double(row % 5) / 4
    }
    for smoothing in [0.0, 0.1] {
      let (d, losses) = (Memory(all, bytes), Memory(count, 8))
      var entropy = RowCall(
        .crossEntropy, x: x.base, gradient: d.base, rows: rows,
        classes: RowClasses(
          labels: labels.base.assumingMemoryBound(to: Int32.self), rowWeights: weights.doubles(),
          scales: scales.doubles(), losses: losses.doubles(), weights: w.base,
          weightSum: Double(size), smoothing: smoothing), scratch: scratch.base)
      table.rows(&entropy)
      d.tell()
      losses.tell()
      let (d2, losses2) = (Memory(all, bytes), Memory(count, 8))
      var probabilities = RowCall(
        .probabilities, x: x.base, y: t.base, gradient: d2.base, rows: rows,
        classes: RowClasses(
          scales: scales.doubles(), losses: losses2.doubles(), weights: w.base,
          smoothing: smoothing), scratch: scratch.base)
      table.rows(&probabilities)
      d2.tell()
      losses2.tell()
    }
    let (d, losses) = (Memory(all, bytes), Memory(count, 8))
    var likelihood = RowCall(
      .likelihood, x: x.base, gradient: d.base, rows: rows,
      classes: RowClasses(
        labels: labels.base.assumingMemoryBound(to: Int32.self), rowWeights: weights.doubles(),
        scales: scales.doubles(), losses: losses.doubles()), scratch: scratch.base)
    table.rows(&likelihood)
    for memory in [d, losses] { memory.tell() }
    if rows.stride == 1 { exponentials(size) }
    summed(count, size, rows, x, t, scales)
    for memory in [x, g, t, w, scratch, labels, weights, scales] { memory.base.deallocate() }
  }

  /// Sums over rows, and rows made of their terms.
  func summed(
    _ count: Int, _ size: Int, _ rows: StridedRows, _ x: Memory, _ y: Memory, _ factors: Memory
  ) {
    let step = rows.stride == 1 ? size : 1
    let room = count + SummedRows.padding
    let scratch = Memory(SummedRows.scratchBytes, 1)
    for sum in [RowSum.products, .magnitudes, .squares, .largest] {
      let (sums, told) = (Memory(3 * room, 8), Memory(count * 3, 8))
      var summed = SummedRows(
        sum, x: x.base, y: y.base, shift: 1e-6, count: count, size: size, xStep: step, yStep: step,
        stride: rows.stride, sums: sums.doubles(), room: room, scratch: scratch.base)
      table.summedRows(&summed)
      for index in 0..<(sum == .products ? 3 : 1) * count {
        told.doubles()[index] = sums.doubles()[index / count * room + index % count]
      }
      told.tell()
      sums.base.deallocate()
    }
    for slope in [RowSlope.linear, .sign] {
      let output = Memory(count * size, bytes)
      let first = RowTerm(
        slope, x: x.base, y: y.base, xStep: step, yStep: step, shift: 1e-6,
        factors: factors.doubles())
      let second = RowTerm(.linear, x: y.base, xStep: step, factors: factors.doubles())
      var mixed = MixedRows(
        first, second, count: count, size: size, stride: rows.stride, output: output.base,
        outputStep: step)
      table.mixedRows(&mixed)
      output.tell()
    }
    scratch.base.deallocate()
  }

  /// All alignments of some sequences, to their end and back to their beginning.
  func alignments() {
    guard let kernel = table.alignment else { return }
    for labels in [0, 1, 6, 29] {
      let room = AlignmentStep.room(labels)
      let memory = Memory(22 * room, 8)
      let all = memory.doubles()
      for index in 0..<22 * room { all[index] = -.infinity }
      let (skips, logs, powers) = (all + 12 * room, all + 13 * room, all + 14 * room)
      var step = AlignmentStep(
        labels: labels, before: AlignmentStep.States(all, room: room),
        after: AlignmentStep.States(all + 6 * room, room: room), skips: skips, logs: logs,
        mantissas: powers, exponents: powers + room)
      for label in 1..<max(labels, 2) where label % 3 > 0 { skips[label] = 0 }
      for isBackward in [false, true] {
        for states in [step.before, step.after] {
          for index in 0..<2 * room {
            states.mantissas[index] = 1
            states.rests[index] = 0
            states.exponents[index] = -.infinity
          }
        }
        step.before.exponents[isBackward ? labels : 0] = 0
        step.isBackward = isBackward
        if isBackward {
          // Any states do for a product.
          for index in 0..<2 * room {
            (powers + 2 * room)[index] = 0.7 + Double(index % 5) / 8
            (powers + 4 * room)[index] = -Double(index % 90)
          }
          step.occupation = AlignmentStep.Occupation(
            mantissas: powers + 2 * room, exponents: powers + 4 * room, inverse: 0.8,
            exponent: -300, results: powers + 6 * room)
        }
        for time in 0..<64 {
          for index in 0...labels {
            logs[index] = -Double((time * 31 + index * 17) % 97) * (time % 9 == 0 ? 40 : 0.37)
          }
          step.isNormalized = time % 16 == 15
          tell(kernel(&step))
          emit(step.after.mantissas, 6 * room * 8)
          if isBackward { emit(powers + 6 * room, 2 * room * 8) }
          swap(&step.before, &step.after)
        }
      }
      memory.base.deallocate()
    }
  }

  private func tell(_ value: Double) {
    let told = Memory(1, 8)
    told.doubles()[0] = value
    told.tell()
  }

  /// Checked ones; some are ignored.
  func labels(_ count: Int, _ classes: Int) -> Memory {
    let (targets, labels, kept) = (Memory(count, 8), Memory(count, 4), Memory(1, 8))
    for row in 0..<count {
      targets.base.storeBytes(
        of: row % 7 == 6 ? -100 : Int64(row * 31 % classes), toByteOffset: 8 * row, as: Int64.self)
    }
    var block = LabelBlock(
      targets: targets.base, kind: .int64, count: count, ignored: -100, classes: classes,
      labels: labels.base.assumingMemoryBound(to: Int32.self))
    kept.base.storeBytes(of: Int64(table.labels(&block)), as: Int64.self)
    kept.tell(isElement: false)
    emit(labels.base, 4 * count)
    targets.base.deallocate()
    return labels
  }

  /// Of the lanes' type.
  func exponentials(_ size: Int) {
    let (x, y, sums) = (Memory(size, lanesBytes), Memory(size, lanesBytes), Memory(2, 8))
    for index in 0..<size {
      let value = -Double(index % 97) / 3
      if lanesBytes == 8 {
        x.doubles()[index] = value
      } else {
        x.base.assumingMemoryBound(to: Float.self)[index] = Float(value)
      }
    }
    sums.doubles()[0] = table.sumOfExponentials(x.base, size, sums.doubles() + 1)
    table.scaledExponentials(x.base, y.base, size, sums.doubles()[1], 0.75)
    sums.tell()
    y.tell()
    x.base.deallocate()
  }

  func columns(_ count: Int, _ size: Int) {
    let all = count * size
    let (x, g) = (elements(all, -30, 30), elements(all, -2, 2, seed: 3))
    let scratch = Memory(StridedRows.blockScratchBytes(columns: count), 1)
    for formula in [RowFormulaID.softmax, .logSoftmax] {
      let (maxima, sums, shares) = (Memory(count, 8), Memory(count, 8), Memory(count, 8))
      let (y, d) = (Memory(all, bytes), Memory(all, bytes))
      var block = RowCall(
        formula, x: x.base, y: g.base, values: y.base, gradient: d.base,
        rows: StridedRows(count: count, size: size, step: 1, stride: count), scratch: scratch.base,
        step: .blockSums,
        sums: BlockSums(maxima: maxima.doubles(), sums: sums.doubles(), dots: shares.doubles()))
      table.rows(&block)
      block.step = .blockResults
      table.rows(&block)
      for memory in [maxima, sums, shares, y, d] { memory.tell() }
    }
    for memory in [x, g, scratch] { memory.base.deallocate() }
  }
}

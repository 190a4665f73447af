// Long rows across memory, block by block along the memory. Types: all. Rows of any length, at
// least 16 of them, whose parts RowCall's steps add up and, once they are merged, write.
internal import CLossdLanes
import LossdKernelTable

/// A number for each row of a block, in the lanes' type; two for sums.
private struct RowNumbersInMemory {
  let base: Scratch
  private let room: Int

  @inline(__always)
  init(_ rows: Rows) {
    base = rows.scratch.assumingMemoryBound(to: Scalar.self)
    room = rows.layout.count &+ 16
  }

  @inline(__always)
  func array(_ index: Int) -> Scratch { base + index &* room }
}

/// Calls `body` with the first of each `width` neighbouring rows; for the last, which may have rows
/// of the one before, with those that are new.
@inline(__always)
private func eachVector(_ columns: Int, _ body: (Int, Bits?) -> Void) {
  var i = 0
  while i &+ width <= columns {
    body(i, nil)
    i &+= width
  }
  let rest = columns &- i
  if rest > 0 {
    body(columns &- width, lanes_at_least(laneNumbers, all(Scalar(width &- rest))))
  }
}

/// A sum for each row, in memory.
private struct RowSumsInMemory {
  let high: Scratch
  let low: Scratch

  @inline(__always)
  func clear(_ columns: Int, _ start: Scalar) {
    var i = 0
    while i < columns {
      high[i] = start
      low[i] = 0
      i &+= 1
    }
  }

  /// Dekker's Fast2Sum, as `ExponentialSums`.
  @inline(__always)
  func addExponentials(_ e: Lanes, _ i: Int) {
    let h = fetch(high, i)
    let sum = h + e
    put(fetch(low, i) + (e - (sum - h)), low, i)
    put(sum, high, i)
  }

  /// Knuth's TwoSum.
  @inline(__always)
  func add(_ value: Lanes, _ i: Int) {
    let h = fetch(high, i)
    let sum = h + value
    let part = sum - h
    put(fetch(low, i) + ((h - (sum - part)) + (value - part)), low, i)
    put(sum, high, i)
  }
}

func addUpBlock<F: SoftmaxFormula>(_ f: F.Type, _ rows: Rows, _ results: BlockSums) {
  let count = rows.layout.count
  let numbers = RowNumbersInMemory(rows)
  let maxima = numbers.array(0)
  let sums = RowSumsInMemory(high: numbers.array(1), low: numbers.array(2))
  setMaxima(rows.x, rows.layout, maxima)
  sums.clear(count, Format.lifted)
  if let upstream = rows.y {
    let dots = RowSumsInMemory(high: numbers.array(3), low: numbers.array(4))
    dots.clear(count, 0)
    addTerms(f, rows, upstream, maxima, sums, dots)
    finish(dots, count, start: 0, F.isOfExponentials ? Format.unlift : 1, results.dots)
  } else {
    addExponentials(rows.x, rows.layout, maxima, sums)
  }
  finish(sums, count, start: Format.lifted, Format.unlift, results.sums)
  var i = 0
  while i < count {
    results.maxima[i] = Double(maxima[i])
    i &+= 1
  }
}

@inline(never)
private func setMaxima(_ x: Input, _ block: StridedRows, _ maxima: Scratch) {
  var i = 0
  while i < block.count {
    maxima[i] = -.infinity
    i &+= 1
  }
  var c = 0
  while c < block.size {
    let line = x + c &* block.stride
    eachVector(block.count) { i, _ in
      put(larger(fetch(maxima, i), load(line, i)), maxima, i)
    }
    c &+= 1
  }
}

/// exp(x - m), lifted; where there is nothing but -infinity, m is that and the exponentials are 0.
@inline(__always)
private func exponentials(_ x: Lanes, _ m: Lanes) -> Lanes {
  liftedExp(x - lanes_pick(lanes_equal(m, all(-.infinity)), all(0), m))
}

@inline(never)
private func addExponentials(
  _ x: Input, _ block: StridedRows, _ maxima: Scratch, _ sums: RowSumsInMemory
) {
  var c = 0
  while c < block.size {
    let line = x + c &* block.stride
    eachVector(block.count) { i, isNew in
      let e = exponentials(load(line, i), fetch(maxima, i))
      sums.addExponentials(isNew == nil ? e : lanes_pick(isNew.unsafelyUnwrapped, e, all(0)), i)
    }
    c &+= 1
  }
}

/// The terms of what gradients are made of, too.
@inline(never)
private func addTerms<F: SoftmaxFormula>(
  _ f: F.Type, _ rows: Rows, _ upstream: Input, _ maxima: Scratch, _ sums: RowSumsInMemory,
  _ dots: RowSumsInMemory
) {
  var c = 0
  while c < rows.layout.size {
    let start = c &* rows.layout.stride
    let (line, above) = (rows.x + start, upstream + start)
    eachVector(rows.layout.count) { i, isNew in
      var e = exponentials(load(line, i), fetch(maxima, i))
      var g = load(above, i)
      if let isNew {
        e = lanes_pick(isNew, e, all(0))
        g = lanes_pick(isNew, g, all(0))
      }
      sums.addExponentials(e, i)
      dots.add(f.term(RowOperands(x: e, exponential: e, y: g)), i)
    }
    c &+= 1
  }
}

/// From two parts, of which one began at `start`, to float64.
@inline(never)
private func finish(
  _ sums: RowSumsInMemory, _ columns: Int, start: Scalar, _ factor: Scalar,
  _ result: UnsafeMutablePointer<Double>
) {
  var i = 0
  while i < columns {
    let high = Double(sums.high[i]) - Double(start)
    let low = Double(sums.low[i])
    // Of infinities and NaN the rounding errors are NaN and the sum itself is right.
    result[i] = (low - low == 0 ? high + low : high) * Double(factor)
    i &+= 1
  }
}

// MARK: - Results

func computeBlock<F: SoftmaxFormula>(_ f: F.Type, _ rows: Rows, _ known: BlockSums) {
  let numbers = RowNumbersInMemory(rows)
  var i = 0
  while i < rows.layout.count {
    let total = RowTotal(high: known.sums[i])
    numbers.array(0)[i] = Scalar(known.maxima[i])
    numbers.array(1)[i] = total.factor
    numbers.array(2)[i] = F.isOfExponentials ? 0 : Scalar(total.logarithm)
    numbers.array(3)[i] = Scalar(known.dots[i])
    i &+= 1
  }
  switch (rows.values, rows.gradient) {
  case (let y?, nil): writeValues(f, rows, numbers, y)
  case (let y?, let z?): writeBoth(f, rows, numbers, y, z)
  case (nil, let z?): writeGradients(f, rows, numbers, z)
  case (nil, nil): break
  }
}

extension RowNumbersInMemory {
  @inline(__always)
  func numbers(_ i: Int) -> RowNumbers {
    RowNumbers(
      maximum: fetch(array(0), i), factor: fetch(array(1), i), logarithm: fetch(array(2), i),
      dot: fetch(array(3), i))
  }

  /// What is at row `i` of a line that begins at `start`.
  @inline(__always)
  func operands(_ rows: Rows, _ start: Int, _ i: Int) -> RowOperands {
    let x = load(rows.x, start &+ i)
    return RowOperands(
      x: x, exponential: liftedExp(x - fetch(array(0), i)), y: rows.y(start &+ i))
  }
}

@inline(never)
private func writeValues<F: SoftmaxFormula>(
  _ f: F.Type, _ rows: Rows, _ numbers: RowNumbersInMemory, _ y: Output
) {
  @inline(__always)
  func value(_ start: Int, _ i: Int) -> Lanes {
    f.value(numbers.operands(rows, start, i), numbers.numbers(i))
  }
  rows.write(y, value)
}

@inline(never)
private func writeGradients<F: SoftmaxFormula>(
  _ f: F.Type, _ rows: Rows, _ numbers: RowNumbersInMemory, _ z: Output
) {
  @inline(__always)
  func slope(_ start: Int, _ i: Int) -> Lanes {
    f.gradient(numbers.operands(rows, start, i), numbers.numbers(i))
  }
  rows.write(z, slope)
}

@inline(never)
private func writeBoth<F: SoftmaxFormula>(
  _ f: F.Type, _ rows: Rows, _ numbers: RowNumbersInMemory, _ y: Output, _ z: Output
) {
  @inline(__always)
  func both(_ start: Int, _ i: Int) -> (Lanes, Lanes) {
    let (o, n) = (numbers.operands(rows, start, i), numbers.numbers(i))
    return (f.value(o, n), f.gradient(o, n))
  }
  rows.write(y, z, both)
}

extension Rows {
  /// Writes a block line by line, the elements of one number of all rows: `value` gives those of a
  /// line that begins at a place, from a row on.
  @inline(__always)
  fileprivate func write(_ y: Output, _ value: (Int, Int) -> Lanes) {
    var seam = Seam()
    var index = 0
    while index < layout.size {
      let start = index &* layout.stride
      @inline(__always)
      func at(_ i: Int) -> Lanes { value(start, i) }
      if isStreamed {
        emitPast(y + start, layout.count, &seam, at)
      } else {
        emit(y + start, layout.count, at)
      }
      index &+= 1
    }
    seam.flush()
  }

  /// The same of two tensors at once, of which one may be what is read.
  @inline(__always)
  fileprivate func write(_ y: Output, _ z: Output, _ value: (Int, Int) -> (Lanes, Lanes)) {
    var seams = (Seam(), Seam())
    var index = 0
    while index < layout.size {
      let start = index &* layout.stride
      @inline(__always)
      func at(_ i: Int) -> (Lanes, Lanes) { value(start, i) }
      if isStreamed {
        emitPast(y + start, z + start, layout.count, &seams, at)
      } else {
        emit(y + start, z + start, layout.count, at)
      }
      index &+= 1
    }
    seams.0.flush()
    seams.1.flush()
  }
}

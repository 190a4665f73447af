// Long rows across memory, block by block along the memory: ColumnBlock has the plan.
internal import CLossdLanes
import LossdKernelTable

/// A number for each row of a block, in the lanes' type; two for sums.
private struct RowNumbers {
  let base: Scratch
  private let room: Int

  @inline(__always)
  init(_ block: ColumnBlock) {
    base = block.scratch.assumingMemoryBound(to: Scalar.self)
    room = block.columns &+ 16
  }

  @inline(__always)
  func array(_ index: Int) -> Scratch { base + index &* room }
}

/// Calls `body` with the first of each `width` neighbouring rows; for the last, which may have rows of the one
/// before, with those that are new.
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
private struct RowSums {
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

func columnSums(_ pointer: UnsafePointer<ColumnSums>) {
  let call = pointer.pointee
  let block = call.block
  let x = block.x.assumingMemoryBound(to: Element.self)
  let numbers = RowNumbers(block)
  let maxima = numbers.array(0)
  let sums = RowSums(high: numbers.array(1), low: numbers.array(2))
  setMaxima(x, block, maxima)
  sums.clear(block.columns, Format.lifted)
  if let upstream = block.upstream?.assumingMemoryBound(to: Element.self) {
    let shares = RowSums(high: numbers.array(3), low: numbers.array(4))
    shares.clear(block.columns, 0)
    addShares(x, upstream, block, maxima, sums, shares, call.isLogarithmic)
    finish(shares, block.columns, start: 0, call.isLogarithmic ? 1 : Format.unlift, call.shares)
  } else {
    addExponentials(x, block, maxima, sums)
  }
  finish(sums, block.columns, start: Format.lifted, Format.unlift, call.sums)
  var i = 0
  while i < block.columns {
    call.maxima[i] = Double(maxima[i])
    i &+= 1
  }
}

@inline(never)
private func setMaxima(_ x: Input, _ block: ColumnBlock, _ maxima: Scratch) {
  var i = 0
  while i < block.columns {
    maxima[i] = -.infinity
    i &+= 1
  }
  var c = 0
  while c < block.size {
    let line = x + c &* block.stride
    eachVector(block.columns) { i, _ in
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
private func addExponentials(_ x: Input, _ block: ColumnBlock, _ maxima: Scratch, _ sums: RowSums) {
  var c = 0
  while c < block.size {
    let line = x + c &* block.stride
    eachVector(block.columns) { i, isNew in
      let e = exponentials(load(line, i), fetch(maxima, i))
      sums.addExponentials(isNew == nil ? e : lanes_pick(isNew.unsafelyUnwrapped, e, all(0)), i)
    }
    c &+= 1
  }
}

@inline(never)
private func addShares(
  _ x: Input, _ upstream: Input, _ block: ColumnBlock, _ maxima: Scratch, _ sums: RowSums,
  _ shares: RowSums, _ isLogarithmic: Bool
) {
  var c = 0
  while c < block.size {
    let (line, above) = (x + c &* block.stride, upstream + c &* block.stride)
    eachVector(block.columns) { i, isNew in
      var e = exponentials(load(line, i), fetch(maxima, i))
      var g = load(above, i)
      if let isNew {
        e = lanes_pick(isNew, e, all(0))
        g = lanes_pick(isNew, g, all(0))
      }
      sums.addExponentials(e, i)
      shares.add(isLogarithmic ? g : g * e, i)
    }
    c &+= 1
  }
}

/// From two parts, of which one began at `start`, to float64.
@inline(never)
private func finish(
  _ sums: RowSums, _ columns: Int, start: Scalar, _ factor: Scalar,
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

func columnResults(_ pointer: UnsafePointer<ColumnResults>) {
  let call = pointer.pointee
  let block = call.block
  let numbers = RowNumbers(block)
  var i = 0
  while i < block.columns {
    numbers.array(0)[i] = Scalar(call.maxima[i])
    numbers.array(1)[i] = Scalar(Double(Format.unlift) / call.sums[i])
    numbers.array(2)[i] = Scalar(wideLog(call.sums[i]))
    numbers.array(3)[i] = Scalar(call.dots[i])
    i &+= 1
  }
  let isInPlace = isAt(call.output, block.x) || isAt(call.gradient, block.x)
  var c = BlockCall(
    x: block.x.assumingMemoryBound(to: Element.self),
    upstream: block.upstream?.assumingMemoryBound(to: Element.self),
    output: call.output?.assumingMemoryBound(to: Element.self),
    gradient: call.gradient?.assumingMemoryBound(to: Element.self), block: block,
    maxima: numbers.array(0), factors: numbers.array(1), logarithms: numbers.array(2),
    dots: numbers.array(3), isStreamed: false)
  c.isStreamed = call.isStreamed && !isInPlace && areAlike(c.output, c.gradient)
  switch (c.output, c.gradient, call.isLogarithmic) {
  case (let y?, nil, false): probabilities(c, y)
  case (let y?, nil, true): logarithms(c, y)
  case (let y?, let z?, false): both(c, y, z)
  case (let y?, let z?, true): logBoth(c, y, z)
  case (nil, let z?, false): gradients(c, z)
  case (nil, let z?, true): logGradients(c, z)
  case (nil, nil, _): break
  }
}

private struct BlockCall {
  let x: Input
  let upstream: Input?
  let output: Output?
  let gradient: Output?
  let block: ColumnBlock
  let maxima: Scratch
  let factors: Scratch
  let logarithms: Scratch
  let dots: Scratch
  var isStreamed: Bool

  /// Writes the block line by line, the elements of one number of all rows: `value` gives those from a row on.
  @inline(__always)
  func write(_ y: Output, _ value: (Int, Input, Int) -> Lanes) {
    var seam = Seam()
    var index = 0
    while index < block.size {
      let start = index &* block.stride
      let line = x + start
      if isStreamed {
        emitPast(y + start, block.columns, &seam) { value(start, line, $0) }
      } else {
        emit(y + start, block.columns) { value(start, line, $0) }
      }
      index &+= 1
    }
    seam.flush()
  }

  /// The same of two tensors at once, of which one may be what is read.
  @inline(__always)
  func write(_ y: Output, _ z: Output, _ value: (Int, Input, Int) -> (Lanes, Lanes)) {
    var seams = (Seam(), Seam())
    var index = 0
    while index < block.size {
      let start = index &* block.stride
      let line = x + start
      if isStreamed {
        emitPast(y + start, z + start, block.columns, &seams) { value(start, line, $0) }
      } else {
        emit(y + start, z + start, block.columns) { value(start, line, $0) }
      }
      index &+= 1
    }
    seams.0.flush()
    seams.1.flush()
  }

  @inline(__always)
  func probability(_ line: Input, _ i: Int) -> Lanes {
    liftedExp(load(line, i) - fetch(maxima, i)) * fetch(factors, i)
  }

  @inline(__always)
  func logarithm(_ line: Input, _ i: Int) -> Lanes {
    (load(line, i) - fetch(maxima, i)) - fetch(logarithms, i)
  }

  /// The upstream gradient from a row of a line on, or ones.
  @inline(__always)
  func above(_ start: Int, _ i: Int) -> Lanes {
    upstream == nil ? all(1) : load(upstream.unsafelyUnwrapped + start, i)
  }
}

@inline(never)
private func probabilities(_ c: BlockCall, _ y: Output) {
  c.write(y) { _, line, i in c.probability(line, i) }
}

@inline(never)
private func logarithms(_ c: BlockCall, _ y: Output) {
  c.write(y) { _, line, i in c.logarithm(line, i) }
}

@inline(never)
private func gradients(_ c: BlockCall, _ z: Output) {
  c.write(z) { start, line, i in
    c.probability(line, i) * (c.above(start, i) - fetch(c.dots, i))
  }
}

@inline(never)
private func logGradients(_ c: BlockCall, _ z: Output) {
  c.write(z) { start, line, i in
    c.above(start, i) - c.probability(line, i) * fetch(c.dots, i)
  }
}

@inline(never)
private func both(_ c: BlockCall, _ y: Output, _ z: Output) {
  c.write(y, z) { start, line, i in
    let p = c.probability(line, i)
    return (p, p * (c.above(start, i) - fetch(c.dots, i)))
  }
}

@inline(never)
private func logBoth(_ c: BlockCall, _ y: Output, _ z: Output) {
  c.write(y, z) { start, line, i in
    let gradient = c.above(start, i) - c.probability(line, i) * fetch(c.dots, i)
    return (c.logarithm(line, i), gradient)
  }
}

// Negative log likelihood: one element a row is read, so that what is left is the way to it, and zeros.
internal import CLossdLanes
import LossdKernelTable

/// The call with its pointers bound to this build's type.
private struct LikelihoodCall {
  let call: LikelihoodRows
  let x: Input
  let gradient: Output?

  @inline(__always)
  init(_ call: LikelihoodRows) {
    self.call = call
    x = call.x.assumingMemoryBound(to: Element.self)
    gradient = call.gradient?.assumingMemoryBound(to: Element.self)
  }

  @inline(__always)
  func weight(_ row: Int) -> Double {
    call.rowWeights == nil ? 1 : call.rowWeights.unsafelyUnwrapped[row]
  }

  /// A row's gradient at its label.
  @inline(__always)
  func slope(_ row: Int) -> Scalar {
    let scale = call.scales == nil ? call.scale : call.scales.unsafelyUnwrapped[row]
    return Scalar(-weight(row) * scale)
  }
}

/// Returns the sum of the losses.
func likelihoodRows(_ pointer: UnsafePointer<LikelihoodRows>) -> Double {
  let c = LikelihoodCall(pointer.pointee)
  let isPlain = c.call.rowWeights == nil && c.call.losses == nil
  // The gradient may lie where the log-probabilities do: these are read first.
  let sum = isPlain ? plainSum(c) : weighedSum(c)
  guard let gradient = c.gradient else { return sum }
  if c.call.rows.stride != 1 {
    fillColumns(c, gradient)
  } else if c.call.rows.size > StridedRows.shortRow {
    fillLongRows(c, gradient)
  } else {
    fillShortRows(c, gradient)
  }
  return sum
}

/// Four sums at a time, since one addition waits for the one before.
@inline(never)
private func plainSum(_ c: LikelihoodCall) -> Double {
  let (labels, x, count) = (c.call.labels, c.x, c.call.rows.count)
  let (step, stride) = (c.call.rows.step, c.call.rows.stride)
  var (sum0, sum1, sum2, sum3) = (ScalarSum(), ScalarSum(), ScalarSum(), ScalarSum())
  @inline(__always)
  func term(_ row: Int) -> Double {
    let label = Int(labels[row])
    // An ignored row's first element may be NaN; it must not be added.
    let value = Double(element_widened(x[row &* step &+ (label < 0 ? 0 : label) &* stride]))
    return label < 0 ? 0 : value
  }
  // Every row is a cache miss: the memory is to have as many to look for at once as it can. What float64's sums take
  // leaves no room for it.
  @inline(__always)
  func touch(_ row: Int) {
    let label = Int(labels[row])
    lanes_touch(x + (row &* step &+ (label < 0 ? 0 : label) &* stride))
  }
  var row = 0
  while row &+ 4 <= count {
    #if !LOSSD_DOUBLE
      if row &+ 36 <= count {
        touch(row &+ 32)
        touch(row &+ 33)
        touch(row &+ 34)
        touch(row &+ 35)
      }
    #endif
    sum0.add(term(row))
    sum1.add(term(row &+ 1))
    sum2.add(term(row &+ 2))
    sum3.add(term(row &+ 3))
    row &+= 4
  }
  while row < count {
    sum0.add(term(row))
    row &+= 1
  }
  sum0.add(sum1)
  sum2.add(sum3)
  sum0.add(sum2)
  return -sum0.value
}

@inline(never)
private func weighedSum(_ c: LikelihoodCall) -> Double {
  let rows = c.call.rows
  var sum = ScalarSum()
  var row = 0
  while row < rows.count {
    let label = Int(c.call.labels[row])
    var loss = 0.0
    if label >= 0 {
      let x = Double(element_widened(c.x[row &* rows.step &+ label &* rows.stride]))
      loss = -c.weight(row) * x
    }
    c.call.losses?[row] = loss
    sum.add(loss)
    row &+= 1
  }
  return sum.value
}

/// A sum in float64; of float64 elements in about twice that precision.
private struct ScalarSum {
  private var high = 0.0
  private var low = 0.0

  @inline(__always)
  mutating func add(_ value: Double) {
    #if LOSSD_DOUBLE
      let sum = high + value
      let part = sum - high
      low += (high - (sum - part)) + (value - part)
      high = sum
    #else
      high += value
    #endif
  }

  @inline(__always)
  mutating func add(_ other: ScalarSum) {
    add(other.high)
    low += other.low
  }

  @inline(__always)
  var value: Double { low - low == 0 ? high + low : high }
}

@inline(never)
private func fillLongRows(_ c: LikelihoodCall, _ gradient: Output) {
  let rows = c.call.rows
  var seam = Seam()
  var row = 0
  while row < rows.count {
    let label = Int(c.call.labels[row])
    let y = gradient + row &* rows.step
    let (place, slope) = (label < 0 ? rows.size : label, c.slope(row))
    if c.call.isStreamed {
      emitPast(y, rows.size, &seam) { replacing(all(0), $0, place, slope) }
    } else {
      emit(y, rows.size) { _ in all(0) }
      if label >= 0 { y[label] = element_narrowed(slope) }
    }
    row &+= 1
  }
  seam.flush()
}

/// Some rows at a time in a tile that is zeros but for their labels.
@inline(never)
private func fillShortRows(_ c: LikelihoodCall, _ gradient: Output) {
  let rows = c.call.rows
  var tile = Tile()
  let t = tile.pointer()
  let flat = UnsafeMutableRawPointer(t).assumingMemoryBound(to: Element.self)
  eachGroup(rows) { row, count in
    setSlopes(c, row, count, flat, isCleared: false)
    let y = gradient + row &* rows.step
    let elements = count &* rows.size
    if elements < width {
      copy(flat, y, elements)
    } else if c.call.isStreamed {
      emitPast(y, elements) { load(flat, $0) }
    } else {
      emit(y, elements) { load(flat, $0) }
    }
    setSlopes(c, row, count, flat, isCleared: true)
  }
}

@inline(__always)
private func setSlopes(
  _ c: LikelihoodCall, _ row: Int, _ count: Int, _ flat: Output, isCleared: Bool
) {
  var lane = 0
  while lane < count {
    let label = Int(c.call.labels[row &+ lane])
    if label >= 0 {
      let value = isCleared ? 0 : element_narrowed(c.slope(row &+ lane))
      flat[lane &* c.call.rows.size &+ label] = value
    }
    lane &+= 1
  }
}

@inline(never)
private func fillColumns(_ c: LikelihoodCall, _ gradient: Output) {
  let rows = c.call.rows
  var index = 0
  while index < rows.size {
    let line = gradient + index &* rows.stride
    if rows.count >= width {
      emit(line, rows.count) { _ in all(0) }
    } else {
      var row = 0
      while row < rows.count {
        line[row] = 0
        row &+= 1
      }
    }
    index &+= 1
  }
  var row = 0
  while row < rows.count {
    let label = Int(c.call.labels[row])
    if label >= 0 { gradient[row &+ label &* rows.stride] = element_narrowed(c.slope(row)) }
    row &+= 1
  }
}

// Rows of which one element counts, that of the row's class: what is left is the way to it, and
// zeros. Types: all. Range: as the formula's. Sums are float64's, of float64 in about twice that.
internal import CLossdLanes
import LossdKernelTable

/// Returns the sum of the losses.
@inline(never)
func pickElements<F: PickedFormula>(_ f: F.Type, _ rows: Rows) -> Double {
  let isPlain = rows.rowWeights == nil && rows.losses == nil
  // The gradient may lie where the elements do: these are read first.
  let sum = isPlain ? plainSum(f, rows) : weighedSum(f, rows)
  guard let gradient = rows.gradient else { return sum }
  if rows.layout.stride != 1 {
    fillColumns(f, rows, gradient)
  } else if rows.layout.size > StridedRows.shortRow {
    fillLongRows(f, rows, gradient)
  } else {
    fillShortRows(f, rows, gradient)
  }
  return sum
}

extension Rows {
  /// A row's gradient at its label.
  @inline(__always)
  fileprivate func slope<F: PickedFormula>(_ f: F.Type, _ row: Int) -> Scalar {
    Scalar(f.slope(rowWeight(row)) * scale(row))
  }
}

/// Four sums at a time, since one addition waits for the one before.
@inline(never)
private func plainSum<F: PickedFormula>(_ f: F.Type, _ rows: Rows) -> Double {
  let (labels, x, count) = (rows.labels.unsafelyUnwrapped, rows.x, rows.layout.count)
  let (step, stride) = (rows.layout.step, rows.layout.stride)
  var (sum0, sum1, sum2, sum3) = (ScalarSum(), ScalarSum(), ScalarSum(), ScalarSum())
  @inline(__always)
  func term(_ row: Int) -> Double {
    let label = Int(labels[row])
    // An ignored row's first element may be NaN; it must not be added.
    let value = Double(element_widened(x[row &* step &+ (label < 0 ? 0 : label) &* stride]))
    return label < 0 ? 0 : value
  }
  // Every row is a cache miss: the memory is to have as many to look for at once as it can. What
  // float64's sums take leaves no room for it.
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
  return f.loss(sum0.value, 1)
}

@inline(never)
private func weighedSum<F: PickedFormula>(_ f: F.Type, _ rows: Rows) -> Double {
  let layout = rows.layout
  var sum = ScalarSum()
  var row = 0
  while row < layout.count {
    let label = rows.label(row)
    var loss = 0.0
    if label >= 0 {
      let x = Double(element_widened(rows.x[row &* layout.step &+ label &* layout.stride]))
      loss = f.loss(x, rows.rowWeight(row))
    }
    rows.losses?[row] = loss
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
private func fillLongRows<F: PickedFormula>(_ f: F.Type, _ rows: Rows, _ gradient: Output) {
  let layout = rows.layout
  var seam = Seam()
  var row = 0
  while row < layout.count {
    let label = rows.label(row)
    let y = gradient + row &* layout.step
    let (place, slope) = (label < 0 ? layout.size : label, rows.slope(f, row))
    if rows.isStreamed {
      emitPast(y, layout.size, &seam) { replacing(all(0), $0, place, slope) }
    } else {
      emit(y, layout.size) { _ in all(0) }
      if label >= 0 { y[label] = element_narrowed(slope) }
    }
    row &+= 1
  }
  seam.flush()
}

/// Some rows at a time in a tile that is zeros but for their labels.
@inline(never)
private func fillShortRows<F: PickedFormula>(_ f: F.Type, _ rows: Rows, _ gradient: Output) {
  let layout = rows.layout
  var tile = Tile()
  let t = tile.pointer()
  let flat = UnsafeMutableRawPointer(t).assumingMemoryBound(to: Element.self)
  eachGroup(layout) { row, count in
    setSlopes(f, rows, row, count, flat, isCleared: false)
    let y = gradient + row &* layout.step
    let elements = count &* layout.size
    if elements < width {
      copy(flat, y, elements)
    } else if rows.isStreamed {
      emitPast(y, elements) { load(flat, $0) }
    } else {
      emit(y, elements) { load(flat, $0) }
    }
    setSlopes(f, rows, row, count, flat, isCleared: true)
  }
}

@inline(__always)
private func setSlopes<F: PickedFormula>(
  _ f: F.Type, _ rows: Rows, _ row: Int, _ count: Int, _ flat: Output, isCleared: Bool
) {
  var lane = 0
  while lane < count {
    let label = rows.label(row &+ lane)
    if label >= 0 {
      let value = isCleared ? 0 : element_narrowed(rows.slope(f, row &+ lane))
      flat[lane &* rows.layout.size &+ label] = value
    }
    lane &+= 1
  }
}

@inline(never)
private func fillColumns<F: PickedFormula>(_ f: F.Type, _ rows: Rows, _ gradient: Output) {
  let layout = rows.layout
  var index = 0
  while index < layout.size {
    let line = gradient + index &* layout.stride
    if layout.count >= width {
      emit(line, layout.count) { _ in all(0) }
    } else {
      var row = 0
      while row < layout.count {
        line[row] = 0
        row &+= 1
      }
    }
    index &+= 1
  }
  var row = 0
  while row < layout.count {
    let label = rows.label(row)
    if label >= 0 { gradient[row &+ label &* layout.stride] = element_narrowed(rows.slope(f, row)) }
    row &+= 1
  }
}

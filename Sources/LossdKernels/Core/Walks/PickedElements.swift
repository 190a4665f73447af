// Rows of which one element counts, that of the row's class: what is left is the way to it, and
// zeros. Types: all. Range: as the formula's.
internal import CLossdLanes
import LossdKernelTable

@inline(never)
func pickElements<F: PickedFormula>(_ f: F.Type, _ rows: Rows) {
  // The gradient may lie where the elements do: these are read first.
  setLosses(f, rows)
  guard let gradient = rows.gradient else { return }
  if rows.layout.stride != 1 {
    fillColumns(f, rows, gradient)
  } else if rows.layout.size > StridedRows.shortRow {
    fillLongRows(f, rows, gradient)
  } else {
    fillShortRows(f, rows, gradient)
  }
}

extension Rows {
  /// A row's gradient at its label.
  @inline(__always)
  fileprivate func slope<F: PickedFormula>(_ f: F.Type, _ row: Int) -> Scalar {
    Scalar(f.slope(rowWeight(row)) * scale(row))
  }
}

@inline(never)
private func setLosses<F: PickedFormula>(_ f: F.Type, _ rows: Rows) {
  let (labels, x, count) = (rows.labels.unsafelyUnwrapped, rows.x, rows.layout.count)
  let (step, stride) = (rows.layout.step, rows.layout.stride)
  let losses = rows.losses.unsafelyUnwrapped
  @inline(__always)
  func place(_ row: Int) -> Int {
    let label = Int(labels[row])
    return row &* step &+ (label < 0 ? 0 : label) &* stride
  }
  var row = 0
  while row < count {
    // Every row is a cache miss: the memory is to have as many to look for at once as it can.
    if row &+ 32 < count { lanes_touch(x + place(row &+ 32)) }
    let value = Double(element_widened(x[place(row)]))
    // An ignored row's first element may be NaN.
    losses[row] = labels[row] < 0 ? 0 : f.loss(value, rows.rowWeight(row))
    row &+= 1
  }
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

// Rows across memory, next to one another: a tile of them at a time is read into scratch that stays
// in the cache, since the elements of one row lie far apart, often at a distance that maps them all
// to a few places of the cache, and would be read from memory again in every sweep.
internal import CLossdLanes
import LossdKernelTable

func computeColumns<F: SoftmaxFormula>(_ f: F.Type, _ rows: Rows) {
  ColumnTile.each(rows.scratch, rows.layout) { tile in
    tile.read(rows.x)
    if let values = rows.values { writeValues(f, rows, tile, values) }
    if let gradient = rows.gradient { writeGradients(f, rows, tile, gradient) }
  }
}

/// The lifted exponentials in place of the elements; the factors that make them probabilities.
@inline(never)
private func keepExponentials(_ tile: ColumnTile) {
  var group = 0
  while group < tile.groups {
    let elements = tile.group(group)
    let sums = groupExponentials(elements, tile.size, tile.maximum(group), to: elements)
    tile.setFactor(group, sums.factor)
    group &+= 1
  }
}

/// The logarithms of the sums in place of these factors.
@inline(never)
private func setLogarithms(_ tile: ColumnTile) {
  var group = 0
  while group < tile.groups {
    let sums = groupExponentials(tile.group(group), tile.size, tile.maximum(group), to: nil)
    tile.setFactor(group, sums.laneLogarithm)
    group &+= 1
  }
}

@inline(never)
private func writeValues<F: SoftmaxFormula>(
  _ f: F.Type, _ rows: Rows, _ tile: ColumnTile, _ values: Output
) {
  if F.isOfExponentials { keepExponentials(tile) } else { setLogarithms(tile) }
  @inline(__always)
  func value(_ index: Int, _ group: Int, _ place: Int) -> Lanes {
    let element = fetch(tile.group(group), index &* width)
    return f.value(RowOperands(x: element, exponential: element), tile.numbers(group))
  }
  tile.write(values, isStreamed: rows.isStreamed, value)
}

@inline(never)
private func writeGradients<F: SoftmaxFormula>(
  _ f: F.Type, _ rows: Rows, _ tile: ColumnTile, _ gradient: Output
) {
  if !F.isOfExponentials || rows.values == nil { keepExponentials(tile) }
  setDots(f, rows, tile)
  @inline(__always)
  func slope(_ index: Int, _ group: Int, _ place: Int) -> Lanes {
    let e = fetch(tile.group(group), index &* width)
    return f.gradient(
      RowOperands(x: e, exponential: e, y: rows.y(place, tile.lanes)), tile.numbers(group))
  }
  tile.write(gradient, isStreamed: rows.isStreamed, slope)
}

/// Adds up each row what its gradient is made of.
@inline(never)
private func setDots<F: SoftmaxFormula>(_ f: F.Type, _ rows: Rows, _ tile: ColumnTile) {
  let hasSums = F.isOfExponentials || rows.y != nil
  if hasSums {
    tile.sum { sums, index, group, place in
      let p = fetch(tile.group(group), index &* width) * tile.factor(group)
      f.add(
        RowOperands(x: p, exponential: p, y: rows.y(place, tile.lanes)), to: &sums, nil)
    }
  }
  var group = 0
  while group < tile.groups {
    let sums = hasSums ? tile.sum(group) : Sums()
    let facts = RowFacts(
      isOne: false, total: allWide(1), logarithm: allWide(0), first: sums.wide)
    tile.setSecond(group, wide_narrowed(f.dot(facts, rows.constants)))
    group &+= 1
  }
}

// MARK: - Losses

func evaluateColumns<F: RowLossFormula>(_ f: F.Type, _ rows: Rows) {
  var memory = GroupMemory()
  let padded = memory.tiles().labels
  ColumnTile.each(rows.scratch, rows.layout) { tile in
    tile.read(rows.x)
    if let gradient = rows.gradient {
      evaluateGradients(f, rows, tile, padded)
      writeGradients(f, rows, tile, gradient)
    } else {
      evaluateLosses(f, rows, tile, padded)
    }
  }
}

@inline(never)
private func evaluateLosses<F: RowLossFormula>(
  _ f: F.Type, _ rows: Rows, _ tile: ColumnTile, _ padded: UnsafeMutablePointer<Int32>
) {
  evaluate(f, rows, tile, padded, hasGradient: false)
}

@inline(never)
private func evaluateGradients<F: RowLossFormula>(
  _ f: F.Type, _ rows: Rows, _ tile: ColumnTile, _ padded: UnsafeMutablePointer<Int32>
) {
  evaluate(f, rows, tile, padded, hasGradient: true)
}

/// Writes the losses, and sets what the gradients are made of: where there are labels, these
/// themselves.
@inline(__always)
private func evaluate<F: RowLossFormula>(
  _ f: F.Type, _ rows: Rows, _ tile: ColumnTile, _ padded: UnsafeMutablePointer<Int32>,
  hasGradient: Bool
) {
  var index = 0
  while index < tile.groups {
    let (elements, column) = (tile.group(index), tile.first &+ tile.column(index))
    let group = Group(rows, column, tile.lanes, padded)
    // The gradient may lie where the logits do, but these are in the tile; y is read twice.
    let end = setLosses(
      f, rows, group, elements, tile.maximum(index), hasGradient: hasGradient
    ) {
      rows.y(column &+ $0 / width &* tile.stride, tile.lanes)
    }
    if hasGradient && F.hasLabels {
      writeGradient(f, rows, group, elements, end) { _ in all(0) }
    } else if hasGradient {
      tile.setFactor(index, end.numbers.factor)
      tile.setSecond(index, end.numbers.dot)
    }
    index &+= 1
  }
}

@inline(never)
private func writeGradients<F: RowLossFormula>(
  _ f: F.Type, _ rows: Rows, _ tile: ColumnTile, _ gradient: Output
) {
  @inline(__always)
  func slope(_ index: Int, _ group: Int, _ place: Int) -> Lanes {
    let e = fetch(tile.group(group), index &* width)
    if F.hasLabels { return e }
    let o = RowOperands(
      x: e, exponential: e, y: rows.y(place, tile.lanes), weight: all(rows.weight(index)))
    return f.gradient(o, tile.numbers(group), rows.constants)
  }
  tile.write(gradient, isStreamed: rows.isStreamed, slope)
}

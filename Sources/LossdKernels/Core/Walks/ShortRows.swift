// Short contiguous rows, a group at a time: as many rows as there are lanes, in the form of a tile.
// Types: all. Rows of at most `StridedRows.shortRow` elements. A group's rows have the same bits
// however many there are.
internal import CLossdLanes
import LossdKernelTable

func computeShortRows<F: SoftmaxFormula>(_ f: F.Type, _ rows: Rows) {
  var memory = GroupMemory()
  let tiles = memory.tiles()
  if rows.gradient == nil {
    eachGroup(rows.layout) { writeValues(f, rows, $0, $1, tiles) }
  } else {
    eachGroup(rows.layout) { writeGradients(f, rows, $0, $1, tiles) }
  }
}

@inline(never)
private func writeValues<F: SoftmaxFormula>(
  _ f: F.Type, _ rows: Rows, _ row: Int, _ count: Int, _ tiles: GroupTiles
) {
  guard let values = rows.values else { return }
  let (x, size) = (tiles.tile, rows.layout.size)
  bringGroup(rows.x, rows.layout, row, count, x)
  var n = RowNumbers(maximum: groupMaximum(x, size))
  let sums = groupExponentials(x, size, n.maximum, to: F.isOfExponentials ? x : nil)
  if F.isOfExponentials { n.factor = sums.factor } else { n.logarithm = sums.laneLogarithm }
  eachElement(size) {
    let element = fetch(x, $0)
    put(f.value(RowOperands(x: element, exponential: element), n), x, $0)
  }
  sendGroup(
    x, values, rows.layout, row, count, past: rows.isStreamed ? tiles.flat : nil)
}

/// The values too where they are wanted.
@inline(never)
private func writeGradients<F: SoftmaxFormula>(
  _ f: F.Type, _ rows: Rows, _ row: Int, _ count: Int, _ tiles: GroupTiles
) {
  guard let gradient = rows.gradient else { return }
  let (layout, size) = (rows.layout, rows.layout.size)
  let (x, e, y) = (tiles.tile, tiles.exponentials, tiles.second)
  let flat = rows.isStreamed ? tiles.flat : nil
  bringGroup(rows.x, layout, row, count, x)
  var n = RowNumbers(maximum: groupMaximum(x, size))
  let total = groupExponentials(x, size, n.maximum, to: e)
  n.factor = total.factor
  if let values = rows.values {
    if !F.isOfExponentials { n.logarithm = total.laneLogarithm }
    eachElement(size) {
      put(f.value(RowOperands(x: fetch(x, $0), exponential: fetch(e, $0)), n), x, $0)
    }
    sendGroup(x, values, layout, row, count, past: flat)
  }
  if let upstream = rows.y { bringGroup(upstream, layout, row, count, y) }
  let hasUpstream = rows.y != nil
  var sums = Sums()
  if F.isOfExponentials || hasUpstream {
    eachElement(size) {
      let p = fetch(e, $0) * n.factor
      let g = hasUpstream ? fetch(y, $0) : all(1)
      f.add(RowOperands(x: p, exponential: p, y: g), to: &sums, nil)
    }
  }
  let facts = RowFacts(
    isOne: false, total: total.wide, logarithm: allWide(0), first: sums.wide)
  n.dot = wide_narrowed(f.dot(facts, rows.constants))
  eachElement(size) {
    let g = hasUpstream ? fetch(y, $0) : all(1)
    put(f.gradient(RowOperands(x: g, exponential: fetch(e, $0), y: g), n), x, $0)
  }
  sendGroup(x, gradient, layout, row, count, past: flat)
}

// MARK: - Losses

func evaluateShortRows<F: RowLossFormula>(_ f: F.Type, _ rows: Rows) {
  var memory = GroupMemory()
  let tiles = memory.tiles()
  if rows.gradient == nil {
    eachGroup(rows.layout) { writeLosses(f, rows, $0, $1, tiles) }
  } else {
    eachGroup(rows.layout) { writeGradients(f, rows, $0, $1, tiles) }
  }
}

@inline(never)
private func writeLosses<F: RowLossFormula>(
  _ f: F.Type, _ rows: Rows, _ row: Int, _ count: Int, _ tiles: GroupTiles
) {
  bringGroups(f, rows, row, count, tiles)
  let group = Group(rows, row, count, tiles.labels)
  let m = groupMaximum(tiles.tile, rows.layout.size)
  _ = setLosses(f, rows, group, tiles.tile, m, hasGradient: false) { fetch(tiles.second, $0) }
}

@inline(never)
private func writeGradients<F: RowLossFormula>(
  _ f: F.Type, _ rows: Rows, _ row: Int, _ count: Int, _ tiles: GroupTiles
) {
  guard let gradient = rows.gradient else { return }
  bringGroups(f, rows, row, count, tiles)
  let group = Group(rows, row, count, tiles.labels)
  let m = groupMaximum(tiles.tile, rows.layout.size)
  let end = setLosses(f, rows, group, tiles.tile, m, hasGradient: true) {
    fetch(tiles.second, $0)
  }
  writeGradient(f, rows, group, tiles.tile, end) { fetch(tiles.second, $0) }
  sendGroup(
    tiles.tile, gradient, rows.layout, row, count, past: rows.isStreamed ? tiles.flat : nil)
}

@inline(__always)
private func bringGroups<F: RowLossFormula>(
  _ f: F.Type, _ rows: Rows, _ row: Int, _ count: Int, _ tiles: GroupTiles
) {
  bringGroup(rows.x, rows.layout, row, count, tiles.tile)
  if !F.hasLabels, let y = rows.y { bringGroup(y, rows.layout, row, count, tiles.second) }
}

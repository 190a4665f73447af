// Softmax and log-softmax: short rows in groups, rows across memory in tiles of groups.
internal import CLossdLanes
import LossdKernelTable

func softmaxRows(_ pointer: UnsafePointer<SoftmaxRows>) {
  let call = pointer.pointee
  if call.rows.stride != 1 {
    softmaxColumns(call)
  } else if call.rows.size > StridedRows.shortRow {
    softmaxLongRows(call)
  } else {
    softmaxShortRows(call)
  }
}

// MARK: - Short rows

private func softmaxShortRows(_ call: SoftmaxRows) {
  let c = SoftmaxCall(call)
  var memory = GroupMemory()
  let tiles = memory.tiles()
  if c.gradient != nil {
    eachGroup(call.rows) { gradientGroup(c, call.rows, $0, $1, tiles) }
  } else if c.isLogarithmic {
    eachGroup(call.rows) { logSoftmaxGroup(c, call.rows, $0, $1, tiles) }
  } else {
    eachGroup(call.rows) { softmaxGroup(c, call.rows, $0, $1, tiles) }
  }
}

@inline(never)
private func softmaxGroup(
  _ c: SoftmaxCall, _ rows: StridedRows, _ row: Int, _ count: Int, _ tiles: GroupTiles
) {
  guard let output = c.output else { return }
  let t = tiles.tile
  bringGroup(c.x, rows, row, count, t)
  let sums = groupExponentials(t, rows.size, groupMaximum(t, rows.size), keeps: true)
  scaleGroup(t, rows.size, inverse(sums))
  sendGroup(t, output, rows, row, count, past: c.isStreamed ? tiles.flat : nil)
}

@inline(never)
private func logSoftmaxGroup(
  _ c: SoftmaxCall, _ rows: StridedRows, _ row: Int, _ count: Int, _ tiles: GroupTiles
) {
  guard let output = c.output else { return }
  let t = tiles.tile
  bringGroup(c.x, rows, row, count, t)
  let m = groupMaximum(t, rows.size)
  let (high, low) = logarithms(groupExponentials(t, rows.size, m, keeps: false))
  subtract(t, rows.size, m, high + low)
  sendGroup(t, output, rows, row, count, past: c.isStreamed ? tiles.flat : nil)
}

/// The gradient, and the output where that is wanted too.
@inline(never)
private func gradientGroup(
  _ c: SoftmaxCall, _ rows: StridedRows, _ row: Int, _ count: Int, _ tiles: GroupTiles
) {
  guard let gradient = c.gradient else { return }
  let size = rows.size
  let (t, g) = (tiles.tile, tiles.second)
  bringGroup(c.x, rows, row, count, t)
  let m = groupMaximum(t, size)
  if let output = c.output, c.isLogarithmic {
    let (high, low) = logarithms(groupExponentials(t, size, m, keeps: false))
    copyGroup(t, g, size)
    subtract(g, size, m, high + low)
    sendGroup(g, output, rows, row, count, past: c.isStreamed ? tiles.flat : nil)
  }
  let sums = groupExponentials(t, size, m, keeps: true)
  scaleGroup(t, size, inverse(sums))
  if let output = c.output, !c.isLogarithmic {
    sendGroup(t, output, rows, row, count, past: c.isStreamed ? tiles.flat : nil)
  }
  if let upstream = c.upstream { bringGroup(upstream, rows, row, count, g) }
  if c.isLogarithmic {
    logGradient(t, c.upstream == nil ? nil : g, size)
  } else {
    gradientOf(t, c.upstream == nil ? nil : g, size)
  }
  sendGroup(t, gradient, rows, row, count, past: c.isStreamed ? tiles.flat : nil)
}

/// 1 / the sums, for what is still lifted.
@inline(__always)
private func inverse(_ sums: ExponentialSums) -> Lanes { all(1) / sums.parts.high }

@inline(__always)
private func copyGroup(_ from: Scratch, _ to: Scratch, _ size: Int) {
  var c = 0
  while c < size {
    put(fetch(from, c &* width), to, c &* width)
    c &+= 1
  }
}

@inline(__always)
private func subtract(_ tile: Scratch, _ size: Int, _ m: Lanes, _ logarithm: Lanes) {
  var c = 0
  while c < size {
    put((fetch(tile, c &* width) - m) - logarithm, tile, c &* width)
    c &+= 1
  }
}

/// p (g - sum(g p)) in place of p.
@inline(__always)
private func gradientOf(_ tile: Scratch, _ g: Scratch?, _ size: Int) {
  var sums = Sums()
  var c = 0
  while c < size {
    let p = fetch(tile, c &* width)
    if let g { sums.add(p, times: fetch(g, c &* width)) } else { sums.add(p) }
    c &+= 1
  }
  let dot = wide_narrowed(sums.wide)
  c = 0
  while c < size {
    let above = g == nil ? all(1) : fetch(g.unsafelyUnwrapped, c &* width)
    put(fetch(tile, c &* width) * (above - dot), tile, c &* width)
    c &+= 1
  }
}

/// g - p sum(g) in place of p.
@inline(__always)
private func logGradient(_ tile: Scratch, _ g: Scratch?, _ size: Int) {
  var dot = all(Scalar(size))
  if let g {
    var sums = Sums()
    var c = 0
    while c < size {
      sums.add(fetch(g, c &* width))
      c &+= 1
    }
    dot = wide_narrowed(sums.wide)
  }
  var c = 0
  while c < size {
    let above = g == nil ? all(1) : fetch(g.unsafelyUnwrapped, c &* width)
    put(above - fetch(tile, c &* width) * dot, tile, c &* width)
    c &+= 1
  }
}

// MARK: - Rows across memory

private func softmaxColumns(_ call: SoftmaxRows) {
  let c = SoftmaxCall(call)
  ColumnTile.each(call.scratch, call.rows) { tile in
    tile.read(c.x)
    if c.isLogarithmic {
      if let output = c.output { logSoftmaxTile(c, tile, output) }
      if let gradient = c.gradient { logGradientTile(c, tile, gradient) }
    } else {
      exponentialsOf(tile)
      if let output = c.output {
        tile.write(output, isStreamed: c.isStreamed) { index, group, _ in
          fetch(tile.group(group), index &* width) * tile.factor(group)
        }
      }
      if let gradient = c.gradient { gradientTile(c, tile, gradient) }
    }
  }
}

/// The lifted exponentials in place of the elements; the factors that make them probabilities.
@inline(never)
private func exponentialsOf(_ tile: ColumnTile) {
  var group = 0
  while group < tile.groups {
    let sums = groupExponentials(tile.group(group), tile.size, tile.maximum(group), keeps: true)
    tile.setFactor(group, inverse(sums))
    group &+= 1
  }
}

@inline(never)
private func logSoftmaxTile(_ c: SoftmaxCall, _ tile: ColumnTile, _ output: Output) {
  var group = 0
  while group < tile.groups {
    let m = tile.maximum(group)
    let (high, low) = logarithms(groupExponentials(tile.group(group), tile.size, m, keeps: false))
    tile.setFactor(group, high + low)
    group &+= 1
  }
  tile.write(output, isStreamed: c.isStreamed) { index, group, _ in
    (fetch(tile.group(group), index &* width) - tile.maximum(group)) - tile.factor(group)
  }
}

/// Sums over the rows of a tile: of the upstream gradient, or of its products with the probabilities.
@inline(never)
private func setDots(_ c: SoftmaxCall, _ tile: ColumnTile) {
  if c.isLogarithmic {
    if c.upstream == nil {
      setSecond(tile) { _ in all(Scalar(tile.size)) }
      return
    }
    tile.sum { sums, _, _, place in sums.add(above(c, tile, place)) }
  } else {
    tile.sum { sums, index, group, place in
      let p = fetch(tile.group(group), index &* width) * tile.factor(group)
      sums.add(p, times: above(c, tile, place))
    }
  }
  setSecond(tile) { wide_narrowed(tile.sum($0).wide) }
}

@inline(__always)
private func setSecond(_ tile: ColumnTile, _ value: (Int) -> Lanes) {
  var group = 0
  while group < tile.groups {
    tile.setSecond(group, value(group))
    group &+= 1
  }
}

@inline(never)
private func gradientTile(_ c: SoftmaxCall, _ tile: ColumnTile, _ gradient: Output) {
  setDots(c, tile)
  tile.write(gradient, isStreamed: c.isStreamed) { index, group, place in
    let p = fetch(tile.group(group), index &* width) * tile.factor(group)
    return p * (above(c, tile, place) - tile.second(group))
  }
}

@inline(never)
private func logGradientTile(_ c: SoftmaxCall, _ tile: ColumnTile, _ gradient: Output) {
  exponentialsOf(tile)
  setDots(c, tile)
  tile.write(gradient, isStreamed: c.isStreamed) { index, group, place in
    let p = fetch(tile.group(group), index &* width) * tile.factor(group)
    return above(c, tile, place) - p * tile.second(group)
  }
}

/// The upstream gradient, or ones.
@inline(__always)
private func above(_ c: SoftmaxCall, _ tile: ColumnTile, _ place: Int) -> Lanes {
  guard let upstream = c.upstream else { return all(1) }
  return tile.count < width ? loadPart(upstream + place, tile.count) : load(upstream, place)
}

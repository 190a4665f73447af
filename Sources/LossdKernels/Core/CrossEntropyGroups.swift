// Cross entropy with class indices: short rows in groups, rows across memory in tiles of groups.
internal import CLossdLanes
import LossdKernelTable

/// What is known of a group's rows, one a lane; a label of -1 where a lane is empty.
private struct GroupRows {
  let labels: UnsafePointer<Int32>
  let weights: UnsafePointer<Double>?
  let scales: UnsafePointer<Double>?
  let scale: Double
  let losses: UnsafeMutablePointer<Double>

  @inline(__always)
  init(_ call: CrossEntropyRows, _ row: Int) {
    labels = call.labels + row
    weights = call.rowWeights == nil ? nil : call.rowWeights.unsafelyUnwrapped + row
    scales = call.scales == nil ? nil : call.scales.unsafelyUnwrapped + row
    scale = call.scale
    losses = call.losses + row
  }
}

/// The same of fewer rows than lanes, with room for all.
private struct PaddedRows {
  private var labels = lane_labels(repeating: -1)
  private var weights = allWide(1)
  private var scales = allWide(0)
  private var losses = allWide(0)

  /// Calls `body` with `count` rows from `row` on, and keeps their losses.
  @inline(never)
  static func with(_ call: CrossEntropyRows, _ row: Int, _ count: Int, _ body: (GroupRows) -> Void)
  {
    var padded = PaddedRows()
    var lane = 0
    while lane < count {
      let own = EntropyRow(call, row &+ lane)
      padded.labels[lane] = Int32(truncatingIfNeeded: own.label)
      padded.weights[lane] = own.weight
      padded.scales[lane] = own.scale
      lane &+= 1
    }
    var whole = call
    withUnsafeMutablePointer(to: &padded.labels) { labels in
      withUnsafeMutablePointer(to: &padded.weights) { weights in
        withUnsafeMutablePointer(to: &padded.scales) { scales in
          withUnsafeMutablePointer(to: &padded.losses) { losses in
            whole.labels = UnsafeRawPointer(labels).assumingMemoryBound(to: Int32.self)
            whole.rowWeights = UnsafeRawPointer(weights).assumingMemoryBound(to: Double.self)
            whole.scales = UnsafeRawPointer(scales).assumingMemoryBound(to: Double.self)
            whole.losses = UnsafeMutableRawPointer(losses).assumingMemoryBound(to: Double.self)
            body(GroupRows(whole, 0))
          }
        }
      }
    }
    lane = 0
    while lane < count {
      call.losses[row &+ lane] = padded.losses[lane]
      lane &+= 1
    }
  }
}

@inline(__always)
private func withRows(
  _ call: CrossEntropyRows, _ row: Int, _ count: Int, _ body: (GroupRows) -> Void
) {
  if count < width {
    PaddedRows.with(call, row, count, body)
  } else {
    body(GroupRows(call, row))
  }
}

func crossEntropyShortRows(_ call: CrossEntropyRows) {
  let c = EntropyCall(call)
  var memory = GroupMemory()
  let tiles = memory.tiles()
  eachGroup(call.rows) { row, count in
    withRows(call, row, count) { shortGroup(c, $0, call.rows, row, count, tiles) }
  }
}

@inline(never)
private func shortGroup(
  _ c: EntropyCall, _ group: GroupRows, _ rows: StridedRows, _ row: Int, _ count: Int,
  _ tiles: GroupTiles
) {
  let t = tiles.tile
  bringGroup(c.x, rows, row, count, t)
  evaluate(c, group, t, rows.size, groupMaximum(t, rows.size))
  if let gradient = c.gradient {
    sendGroup(t, gradient, rows, row, count, past: c.isStreamed ? tiles.flat : nil)
  }
}

func crossEntropyColumns(_ call: CrossEntropyRows) {
  let c = EntropyCall(call)
  ColumnTile.each(call.scratch, call.rows) { tile in
    tile.read(c.x)
    var group = 0
    while group < tile.groups {
      withRows(call, tile.first &+ tile.column(group), tile.count) {
        evaluate(c, $0, tile.group(group), tile.size, tile.maximum(group))
      }
      group &+= 1
    }
    if let gradient = c.gradient {
      tile.write(gradient, isStreamed: c.isStreamed) { index, group, _ in
        fetch(tile.group(group), index &* width)
      }
    }
  }
}

/// The losses of a group, and the gradient, where that is wanted, in place of the logits.
@inline(__always)
private func evaluate(
  _ c: EntropyCall, _ group: GroupRows, _ tile: Scratch, _ size: Int, _ m: Lanes
) {
  if c.gradient == nil {
    lossGroup(c, group, tile, size, m)
  } else {
    gradientGroup(c, group, tile, size, m)
  }
}

@inline(never)
private func lossGroup(
  _ c: EntropyCall, _ group: GroupRows, _ tile: Scratch, _ size: Int, _ m: Lanes
) {
  let picked = pick(group, tile)
  let spread = c.smoothing > 0 ? spreadTerms(c, tile, size, m) : allWide(0)
  let sums = groupExponentials(tile, size, m, keeps: false)
  setLosses(c, group, m, picked, spread, sums)
}

@inline(never)
private func gradientGroup(
  _ c: EntropyCall, _ group: GroupRows, _ tile: Scratch, _ size: Int, _ m: Lanes
) {
  let picked = pick(group, tile)
  let spread = c.smoothing > 0 ? spreadTerms(c, tile, size, m) : allWide(0)
  let sums = groupExponentials(tile, size, m, keeps: true)
  setLosses(c, group, m, picked, spread, sums)
  differentiate(c, group, tile, size, sums)
}

/// The element of each row's label; the first of a row without one.
@inline(__always)
private func pick(_ group: GroupRows, _ tile: Scratch) -> Lanes {
  var result = all(0)
  var lane = 0
  while lane < width {
    let label = Int(group.labels[lane])
    result[lane] = tile[(label < 0 ? 0 : label) &* width &+ lane]
    lane &+= 1
  }
  return result
}

/// sum_c w_c (m - x_c).
@inline(never)
private func spreadTerms(_ c: EntropyCall, _ tile: Scratch, _ size: Int, _ m: Lanes) -> Wide {
  var sums = Sums()
  var index = 0
  while index < size {
    let weight = all(c.weight(index))
    sums.add(difference: m, fetch(tile, index &* width), times: weight)
    index &+= 1
  }
  return sums.wide
}

@inline(__always)
private func weights(_ group: GroupRows) -> Wide {
  group.weights == nil ? allWide(1) : wide_load(group.weights.unsafelyUnwrapped)
}

@inline(__always)
private func setLosses(
  _ c: EntropyCall, _ group: GroupRows, _ m: Lanes, _ picked: Lanes, _ spread: Wide,
  _ sums: ExponentialSums
) {
  let logarithm = wideLogarithms(sums)
  let nearest = (wide_of(m) - wide_of(picked)) + logarithm
  var loss = weights(group) * allWide(1 - c.smoothing) * nearest
  if c.smoothing > 0 {
    loss = loss + allWide(c.share) * (spread + allWide(c.classWeightSum) * logarithm)
  }
  let isKept = labels_are_kept(labels_load(group.labels))
  wide_store(group.losses, wide_pick(isKept, loss, allWide(0)))
}

/// From the lifted exponentials to the gradient.
@inline(__always)
private func differentiate(
  _ c: EntropyCall, _ group: GroupRows, _ tile: Scratch, _ size: Int, _ sums: ExponentialSums
) {
  let isKept = labels_are_kept(labels_load(group.labels))
  let given = group.scales == nil ? allWide(group.scale) : wide_load(group.scales.unsafelyUnwrapped)
  let scale = wide_pick(isKept, given, allWide(0))
  let ownFactor = scale * allWide(1 - c.smoothing) * weights(group)
  let each = scale * allWide(c.share)
  let exact = (ownFactor + each * allWide(c.classWeightSum)) / sums.wide
  var own = wide_of(pick(group, tile) * Format.unlift) * exact - ownFactor
  if c.smoothing > 0 { own = own - each * wide_of(pickWeights(c, group)) }
  let ownLanes = wide_narrowed(own)
  scaleTile(c, tile, size, exact, wide_narrowed(each))
  var lane = 0
  while lane < width {
    let label = Int(group.labels[lane])
    if label >= 0 { tile[label &* width &+ lane] = ownLanes[lane] }
    lane &+= 1
  }
}

@inline(__always)
private func scaleTile(
  _ c: EntropyCall, _ tile: Scratch, _ size: Int, _ exact: Wide, _ each: Lanes
) {
  var factor = wide_narrowed(exact)
  // What is hardly more than nothing would lose digits with the exponentials' lift taken off it.
  let isSmall = lanes_less(magnitude(factor), all(Format.smallestLifted))
  if anyLane(isSmall & lanes_not_equal(factor, all(0))) {
    scaleGroup(tile, size, all(Format.unlift))
  } else {
    factor = factor * Format.unlift
  }
  if c.smoothing == 0 {
    scaleGroup(tile, size, factor)
    return
  }
  var index = 0
  while index < size {
    let e = fetch(tile, index &* width)
    put(e * factor - each * c.weight(index), tile, index &* width)
    index &+= 1
  }
}

/// The weight of each row's label.
@inline(never)
private func pickWeights(_ c: EntropyCall, _ group: GroupRows) -> Lanes {
  var result = all(0)
  var lane = 0
  while lane < width {
    let label = Int(group.labels[lane])
    result[lane] = label < 0 ? 0 : c.weight(label)
    lane &+= 1
  }
  return result
}

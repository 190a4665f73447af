// Cross entropy with class probabilities; ProbabilityRows has the formulas. Where logits are so far apart
// that torch's logarithms overflow, a share near 0 would hide it: the loss is made NaN.
internal import CLossdLanes
import LossdKernelTable

/// The call with its pointers bound to this build's type.
private struct ProbabilityCall {
  let x: Input
  let target: Input
  let gradient: Output?
  let weights: Input?
  let scales: UnsafePointer<Double>?
  let scale: Double
  let losses: UnsafeMutablePointer<Double>
  /// 1 - e, and e / C.
  let kept: Double
  let smooth: Double
  let isStreamed: Bool

  @inline(__always)
  init(_ call: ProbabilityRows) {
    x = call.x.assumingMemoryBound(to: Element.self)
    target = call.target.assumingMemoryBound(to: Element.self)
    gradient = call.gradient?.assumingMemoryBound(to: Element.self)
    weights = call.classWeights?.assumingMemoryBound(to: Element.self)
    scales = call.scales
    scale = call.scale
    losses = call.losses
    kept = 1 - call.smoothing
    smooth = call.smoothing / Double(call.rows.size)
    isStreamed = call.isStreamed && !isAt(call.gradient, call.x)
  }

  @inline(__always)
  func scale(_ row: Int) -> Double { scales == nil ? scale : scales.unsafelyUnwrapped[row] }

  /// v of consecutive classes of a row.
  @inline(__always)
  func shares(_ t: Lanes, _ c: Int) -> Wide {
    let y = wide_of(t) * allWide(kept) + allWide(smooth)
    return weights == nil ? y : y * wide_of(load(weights.unsafelyUnwrapped, c))
  }

  /// v of one class of several rows.
  @inline(__always)
  func sharesOfClass(_ t: Lanes, _ c: Int) -> Wide {
    let y = wide_of(t) * allWide(kept) + allWide(smooth)
    return weights == nil
      ? y : y * allWide(Double(element_widened(weights.unsafelyUnwrapped[c])))
  }
}

func probabilityRows(_ pointer: UnsafePointer<ProbabilityRows>) {
  let call = pointer.pointee
  let c = ProbabilityCall(call)
  if call.rows.stride != 1 {
    ColumnTile.each(call.scratch, call.rows) { columns(c, $0) }
  } else if call.rows.size > StridedRows.shortRow {
    longRows(c, call)
  } else {
    var memory = GroupMemory()
    let tiles = memory.tiles()
    eachGroup(call.rows) { shortGroup(c, call.rows, $0, $1, tiles) }
  }
}

// MARK: - Long rows

private func longRows(_ c: ProbabilityCall, _ call: ProbabilityRows) {
  let run = RowRun(c.x, call.rows, call.scratch)
  if let gradient = c.gradient {
    gradients(c, run, gradient)
  } else {
    losses(c, run)
  }
}

/// What a row's loss and gradient are made of besides its exponentials: sum(v) and sum_c v_c (m - x_c).
private struct RowShares {
  private var shares = Sums()
  private var terms = Sums()
  private var farthest = all(0)
  private var maximum = all(0)

  @inline(__always)
  init() {}

  @inline(__always)
  mutating func begin(_ row: ReadyRow) {
    self = RowShares()
    maximum = all(row.maximum)
  }

  @inline(__always)
  mutating func add(_ c: ProbabilityCall, _ start: Int, _ i: Int, _ isNew: Bits?) {
    let x = load(c.x + start, i)
    var v = c.shares(load(c.target + start, i), i)
    if let isNew { v = wide_pick(wide_mask(isNew), v, allWide(0)) }
    farthest = larger(farthest, maximum - x)
    shares.add(wide: v)
    terms.add(wide: v * (wide_of(maximum) - wide_of(x)))
  }

  @inline(__always)
  var share: Double { shares.total }

  @inline(__always)
  func loss(_ total: RowTotal) -> Double {
    let isFar = lanes_largest(farthest) >= Format.far
    return isFar ? .nan : total.logarithm * shares.total + terms.total
  }
}

@inline(never)
private func losses(_ c: ProbabilityCall, _ run: RowRun) {
  let size = run.rows.size
  var ready = run.first()
  var shares = RowShares()
  var row = 0
  while row < run.rows.count {
    let start = run.start(row)
    shares.begin(ready)
    let total = sweep(&ready, size, run.sweep(row), keeps: false) { i, _, isNew in
      shares.add(c, start, i, isNew)
    } behind: { _ in
    }
    c.losses[row] = shares.loss(total)
    row &+= 1
  }
}

@inline(never)
private func gradients(_ c: ProbabilityCall, _ run: RowRun, _ y: Output) {
  var shares = RowShares()
  pipeline(run, keeps: true, to: RowOutputs(y, nil, isStreamed: c.isStreamed)) {
    shares.begin($1)
  } beside: { start, i, _, isNew in
    shares.add(c, start, i, isNew)
  } conclude: { row, _, total in
    c.losses[row] = shares.loss(total)
    let factor = c.scale(row) * shares.share * Double(Format.unlift) / total.value
    return RowEnd(
      start: run.start(row), kept: run.scratch.turn(row), factor: Scalar(factor),
      less: Scalar(c.scale(row)))
  } value: { end, i in
    let v = wide_narrowed(c.shares(load(c.target + end.start, i), i))
    return (fetch(end.kept, i) * end.factor - v * end.less, all(0))
  }
}

// MARK: - Groups

@inline(never)
private func shortGroup(
  _ c: ProbabilityCall, _ rows: StridedRows, _ row: Int, _ count: Int, _ tiles: GroupTiles
) {
  let (tile, target) = (tiles.tile, tiles.second)
  bringGroup(c.x, rows, row, count, tile)
  bringGroup(c.target, rows, row, count, target)
  let m = groupMaximum(tile, rows.size)
  let sums = groupSums(c, tile, rows.size, m) { fetch(target, $0 &* width) }
  let (factor, scale) = setLosses(c, sums, row, count)
  guard let gradient = c.gradient else { return }
  var index = 0
  while index < rows.size {
    let v = c.sharesOfClass(fetch(target, index &* width), index)
    put(
      fetch(tile, index &* width) * factor - wide_narrowed(v * scale), tile, index &* width)
    index &+= 1
  }
  sendGroup(tile, gradient, rows, row, count, past: c.isStreamed ? tiles.flat : nil)
}

@inline(never)
private func columns(_ c: ProbabilityCall, _ tile: ColumnTile) {
  tile.read(c.x)
  func target(_ place: Int) -> Lanes {
    tile.count < width ? loadPart(c.target + place, tile.count) : load(c.target, place)
  }
  // The gradient may lie where the logits do, but these are in the tile; the target is read twice.
  var group = 0
  while group < tile.groups {
    let column = tile.first &+ tile.column(group)
    let sums = groupSums(c, tile.group(group), tile.size, tile.maximum(group)) {
      target(column &+ $0 &* tile.stride)
    }
    let (factor, scale) = setLosses(c, sums, column, tile.count < width ? tile.count : width)
    tile.setFactor(group, factor)
    tile.setSecond(group, wide_narrowed(scale))
    group &+= 1
  }
  guard let gradient = c.gradient else { return }
  tile.write(gradient, isStreamed: c.isStreamed) { index, group, place in
    let v = wide_narrowed(c.sharesOfClass(target(place), index))
    return fetch(tile.group(group), index &* width) * tile.factor(group)
      - v * tile.second(group)
  }
}

private struct ProbabilitySums {
  var exponentials = ExponentialSums()
  var shares = Sums()
  var terms = Sums()
  var farthest = all(0)
}

/// What a group's losses and gradients are made of; the lifted exponentials take the place of x.
@inline(__always)
private func groupSums(
  _ c: ProbabilityCall, _ tile: Scratch, _ size: Int, _ m: Lanes, _ target: (Int) -> Lanes
) -> ProbabilitySums {
  var sums = ProbabilitySums()
  var index = 0
  while index < size {
    let x = fetch(tile, index &* width)
    let v = c.sharesOfClass(target(index), index)
    sums.shares.add(wide: v)
    sums.terms.add(wide: v * (wide_of(m) - wide_of(x)))
    sums.farthest = larger(sums.farthest, m - x)
    let e = liftedExp(x - m)
    put(e, tile, index &* width)
    sums.exponentials.add(e)
    index &+= 1
  }
  return sums
}

/// Writes the losses of `count` rows from `row` on; returns what exponentials and shares are multiplied by.
@inline(__always)
private func setLosses(
  _ c: ProbabilityCall, _ sums: ProbabilitySums, _ row: Int, _ count: Int
) -> (factor: Lanes, scale: Wide) {
  let share = sums.shares.wide
  let isFar = wide_mask(lanes_at_least(sums.farthest, all(Format.far)))
  let loss = wide_pick(
    isFar, allWide(.nan), wideLogarithms(sums.exponentials) * share + sums.terms.wide)
  var scale = allWide(c.scale)
  var lane = 0
  while lane < count {
    c.losses[row &+ lane] = loss[lane]
    if c.scales != nil { scale[lane] = c.scale(row &+ lane) }
    lane &+= 1
  }
  let exact = scale * share / sums.exponentials.wide
  return (wide_narrowed(exact * allWide(Double(Format.unlift))), scale)
}

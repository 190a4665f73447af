// Losses of a group and what its gradients are made of, for short rows and for rows across memory.
// Types: all. Rows have the same bits in any group.
internal import CLossdLanes
import LossdKernelTable

/// Rows whose losses are computed together, one a lane.
struct Group {
  let row: Int
  /// Of fewer rows than lanes the other lanes are empty, with a label of -1.
  let count: Int
  let labels: UnsafePointer<Int32>

  @inline(__always)
  init(_ rows: Rows, _ row: Int, _ count: Int, _ padded: UnsafeMutablePointer<Int32>) {
    self.row = row
    self.count = count
    guard let all = rows.labels, count < width else {
      labels = rows.labels == nil ? UnsafePointer(padded) : rows.labels.unsafelyUnwrapped + row
      return
    }
    var lane = 0
    while lane < width {
      padded[lane] = lane < count ? all[row &+ lane] : -1
      lane &+= 1
    }
    labels = UnsafePointer(padded)
  }

  @inline(__always)
  var isKept: wide_bits { labels_are_kept(labels_load(labels)) }

  /// A number of each row's label; that of the first class where a row has none.
  @inline(__always)
  func pick(_ tile: Scratch) -> Lanes {
    var result = all(0)
    var lane = 0
    while lane < width {
      let label = Int(labels[lane])
      result[lane] = tile[(label < 0 ? 0 : label) &* width &+ lane]
      lane &+= 1
    }
    return result
  }

  /// The weight of each row's label.
  @inline(__always)
  func pickWeights(_ rows: Rows) -> Lanes {
    var result = all(0)
    var lane = 0
    while lane < width {
      let label = Int(labels[lane])
      result[lane] = label < 0 ? 0 : rows.weight(label)
      lane &+= 1
    }
    return result
  }

  /// Puts a number in the place of each row's label.
  @inline(__always)
  func place(_ own: Lanes, _ tile: Scratch) {
    var lane = 0
    while lane < width {
      let label = Int(labels[lane])
      if label >= 0 { tile[label &* width &+ lane] = own[lane] }
      lane &+= 1
    }
  }

  /// Numbers of the rows.
  @inline(__always)
  func numbers(_ base: UnsafePointer<Double>?, _ usual: Double) -> Wide {
    base == nil ? allWide(usual) : wideNumbers(base.unsafelyUnwrapped + row, count)
  }

  @inline(__always)
  func setLosses(_ losses: Wide, _ rows: Rows) {
    let goal = rows.losses.unsafelyUnwrapped + row
    if count == width {
      wide_store(goal, losses)
      return
    }
    var lane = 0
    while lane < count {
      goal[lane] = losses[lane]
      lane &+= 1
    }
  }
}

/// What a group's gradients are made of.
struct GroupEnd {
  var numbers = RowNumbers()
  var wideDot = allWide(0)
  var own = all(0)

  @inline(__always)
  init() {}
}

/// Writes the losses of a group, whose largest elements are `m`, and puts the lifted exponentials
/// in place of x where the gradient is wanted. `y` gives what is at a place of the tile.
@inline(__always)
func setLosses<F: RowLossFormula>(
  _ f: F.Type, _ rows: Rows, _ group: Group, _ tile: Scratch, _ m: Lanes, hasGradient: Bool,
  _ y: (Int) -> Lanes
) -> GroupEnd {
  var end = GroupEnd()
  let size = rows.layout.size
  let picked = F.hasLabels ? group.pick(tile) : m
  var sums = RowSums()
  var total = ExponentialSums()
  var index = 0
  while index < size {
    let place = index &* width
    let x = fetch(tile, place)
    if F.hasSums {
      let o = RowOperands(
        x: x, exponential: all(0), maximum: m, y: F.hasLabels ? all(0) : y(place),
        weight: all(rows.weight(index)))
      f.add(o, to: &sums, nil, rows.constants)
    }
    let e = liftedExp(x - m)
    if hasGradient { put(e, tile, place) }
    total.add(e)
    index &+= 1
  }
  let scale = group.numbers(rows.scales, rows.scale)
  var facts = RowFacts(
    isOne: false, total: total.wide, logarithm: total.logarithm, first: sums.first.wide,
    second: sums.second.wide, largest: sums.largest)
  facts.weight = group.numbers(rows.rowWeights, 1)
  facts.scale = F.hasLabels ? wide_pick(group.isKept, scale, allWide(0)) : scale
  facts.distance = wide_of(m) - wide_of(picked)
  let loss = f.loss(facts, rows.constants)
  group.setLosses(F.hasLabels ? wide_pick(group.isKept, loss, allWide(0)) : loss, rows)
  if !hasGradient { return end }
  let factor = f.factor(facts, rows.constants)
  end.wideDot = f.dot(facts, rows.constants)
  end.numbers.dot = wide_narrowed(end.wideDot)
  if !F.hasLabels {
    end.numbers.factor = wide_narrowed(factor * allWide(Double(Format.unlift)))
    return end
  }
  let own = f.own(
    facts, rows.constants, factor: factor,
    exponential: wide_of(group.pick(tile) * Format.unlift),
    weight: F.hasSums ? wide_of(group.pickWeights(rows)) : allWide(1))
  end.own = wide_narrowed(own)
  end.numbers.factor = loweredFactor(wide_narrowed(factor), tile, size)
  return end
}

/// What makes gradients of the exponentials. Takes the lift off these where it has to.
@inline(__always)
private func loweredFactor(_ factor: Lanes, _ tile: Scratch, _ size: Int) -> Lanes {
  // What is hardly more than nothing would lose digits with the exponentials' lift taken off it.
  let isSmall = lanes_less(magnitude(factor), all(Format.smallestLifted))
  if !anyLane(isSmall & lanes_not_equal(factor, all(0))) { return factor * Format.unlift }
  eachElement(size) { put(fetch(tile, $0) * all(Format.unlift), tile, $0) }
  return factor
}

/// Puts a group's gradient in place of its exponentials.
@inline(__always)
func writeGradient<F: RowLossFormula>(
  _ f: F.Type, _ rows: Rows, _ group: Group, _ tile: Scratch, _ end: GroupEnd, _ y: (Int) -> Lanes
) {
  var index = 0
  while index < rows.layout.size {
    let place = index &* width
    let o = RowOperands(
      x: all(0), exponential: fetch(tile, place), y: F.hasLabels ? all(0) : y(place),
      weight: F.hasSums ? all(rows.weight(index)) : all(1))
    put(f.gradient(o, end.numbers, wideDot: end.wideDot, rows.constants), tile, place)
    index &+= 1
  }
  if F.hasLabels { group.place(end.own, tile) }
}

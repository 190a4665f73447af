// Sums over rows, and rows made of terms: distances, norms and cosines with their gradients. One walk for rows that are
// contiguous, one for short ones, a row a lane, one for rows across memory; what is summed is looked up for each vector, in
// the shade of its loads. Types: all. Differences are rounded to the lanes' type as torch's are; products and sums are float64's, of float64 twice that.
internal import CLossdLanes
import LossdKernelTable

func sumRows(_ pointer: UnsafePointer<SummedRows>) {
  let c = pointer.pointee
  if c.stride != 1 {
    sumColumns(c)
    return
  }
  if c.size <= StridedRows.shortRow {
    sumShortRows(c)
    return
  }
  var row = 0
  while row < c.count {
    let x = c.x.assumingMemoryBound(to: Element.self) + row &* c.xStep
    let y = offset(c.y?.assumingMemoryBound(to: Element.self), row &* c.yStep)
    var limit = 0.0
    if let limits = c.limits { limit = limits[row] }
    let totals = sumRow(c.sum, x, y, Scalar(c.shift), Scalar(limit), c.size)
    c.sums[row] = totals.first.total + totals.bound
    if c.sum == .products {
      c.sums[c.room &+ row] = totals.second.total
      c.sums[2 &* c.room &+ row] = totals.third.total
    }
    row &+= 1
  }
}

/// What one row adds up to, or as many rows as there are lanes.
private struct RowTotals {
  /// Of `largest` 0, or NaN.
  var first = Sums()
  var second = Sums()
  var third = Sums()
  var largest = all(0)

  @inline(__always)
  init() {}

  @inline(__always)
  var bound: Double { Double(lanes_largest(largest)) }

  /// `isPair`: whether there is a y; no optional vector, which would be taken apart. `isIn`: the lanes that count; nil: all.
  @inline(__always)
  mutating func add(
    _ sum: RowSum, _ x: Lanes, _ y: Lanes, isPair: Bool, _ shift: Lanes, _ limit: Lanes,
    _ isIn: Bits? = nil
  ) {
    if sum == .products {
      // Lanes that do not count are zeros.
      first.add(x, times: x)
      if isPair {
        second.add(x, times: y)
        third.add(y, times: y)
      }
      return
    }
    var d = magnitude(isPair ? (x - y) + shift : x)
    if let isIn { d = lanes_pick(isIn, d, all(sum == .ties ? -1 : 0)) }
    switch sum {
    case .magnitudes: first.add(d)
    case .squares: first.add(d, times: d)
    case .largest:
      largest = lanes_larger(largest, d)
      first.add(lanes_pick(lanes_equal(d, d), all(0), d))
    default:
      let isTie = lanes_pick(lanes_equal(d, limit), all(1), all(0))
      first.add(lanes_pick(lanes_equal(d, d), isTie, all(1)))
    }
  }
}

@inline(never)
private func sumRow(
  _ sum: RowSum, _ x: Input, _ y: Input?, _ shift: Scalar, _ limit: Scalar, _ size: Int
) -> RowTotals {
  var totals = RowTotals()
  let (shift, limit) = (all(shift), all(limit))
  let (other, isPair) = (y ?? x, y != nil)
  let end = size / width &* width
  var i = 0
  while i < end {
    totals.add(sum, load(x, i), load(other, i), isPair: isPair, shift, limit)
    i &+= width
  }
  if end < size {
    let rest = size &- end
    totals.add(
      sum, lanes_load_part(x + end, rest), lanes_load_part(other + end, rest), isPair: isPair,
      shift, limit, lanes_less(laneNumbers, all(Scalar(rest))))
  }
  return totals
}

@inline(__always)
private func loaded(_ base: Input, _ i: Int, _ count: Int) -> Lanes {
  count == width ? load(base, i) : lanes_load_part(base + i, count)
}

/// Rows of few elements, a row a lane.
@inline(never)
private func sumShortRows(_ c: SummedRows) {
  var memory = GroupMemory()
  let tiles = memory.tiles()
  let operands = GroupOperands(c.x, c.y, c.xStep, c.yStep)
  let shift = all(Scalar(c.shift))
  var row = 0
  while row < c.count {
    let count = c.count &- row < width ? c.count &- row : width
    operands.bring(row, count, c.size, tiles.tile, tiles.second)
    var limit = all(0)
    if let limits = c.limits { limit = numbers(limits + row, count) }
    var totals = RowTotals()
    let second = operands.second(tiles)
    var i = 0
    while i < c.size {
      totals.add(
        c.sum, fetch(tiles.tile, i &* width), fetch(second, i &* width), isPair: c.y != nil, shift,
        limit)
      i &+= 1
    }
    give(totals, c, row)
    row &+= width
  }
}

/// Rows of one or two tensors that become tiles.
private struct GroupOperands {
  private let x: Input
  private let y: Input?
  private let xStep: Int
  private let yStep: Int

  @inline(__always)
  init(_ x: UnsafeRawPointer, _ y: UnsafeRawPointer?, _ xStep: Int, _ yStep: Int) {
    self.x = x.assumingMemoryBound(to: Element.self)
    self.y = y?.assumingMemoryBound(to: Element.self)
    self.xStep = xStep
    self.yStep = yStep
  }

  @inline(__always)
  init(_ term: Term) {
    x = term.x
    y = term.y
    xStep = term.xStep
    yStep = term.yStep
  }

  @inline(__always)
  func bring(_ row: Int, _ count: Int, _ size: Int, _ tile: Scratch, _ second: Scratch) {
    bringGroup(x, StridedRows(count: count, size: size, step: xStep, stride: 1), row, count, tile)
    guard let y else { return }
    bringGroup(y, StridedRows(count: count, size: size, step: yStep, stride: 1), row, count, second)
  }

  /// Where `bring` has put the second tensor's rows, or the first's where there is no second.
  @inline(__always)
  func second(_ tiles: GroupTiles) -> Scratch { y == nil ? tiles.tile : tiles.second }
}

/// What as many rows as there are lanes add up to, from row `row` on.
@inline(__always)
private func give(_ totals: RowTotals, _ c: SummedRows, _ row: Int) {
  let goal = c.sums + row
  wide_store(goal, wide_add(totals.first.wide, wide_of(totals.largest)))
  if c.sum == .products {
    wide_store(goal + c.room, totals.second.wide)
    wide_store(goal + 2 &* c.room, totals.third.wide)
  }
}

/// Along the memory, a row a lane.
@inline(never)
private func sumColumns(_ c: SummedRows) {
  let x = c.x.assumingMemoryBound(to: Element.self)
  let (y, isPair) = (c.y?.assumingMemoryBound(to: Element.self) ?? x, c.y != nil)
  let groups = (c.count &+ width &- 1) / width
  let totals = c.scratch.assumingMemoryBound(to: RowTotals.self)
  var g = 0
  while g < groups {
    totals[g] = RowTotals()
    g &+= 1
  }
  let shift = all(Scalar(c.shift))
  var line = 0
  while line < c.size {
    g = 0
    while g < groups {
      let column = g &* width
      let count = c.count &- column < width ? c.count &- column : width
      let place = line &* c.stride &+ column
      var limit = all(0)
      if let limits = c.limits { limit = numbers(limits + column, count) }
      totals[g].add(
        c.sum, loaded(x, place, count), loaded(y, place, count), isPair: isPair, shift, limit)
      g &+= 1
    }
    line &+= 1
  }
  g = 0
  while g < groups {
    give(totals[g], c, g &* width)
    g &+= 1
  }
}

/// A row's number in each lane.
@inline(__always)
private func numbers(_ base: UnsafePointer<Double>, _ count: Int) -> Lanes {
  wide_narrowed(wideNumbers(base, count))
}

@inline(__always)
func wideNumbers(_ base: UnsafePointer<Double>, _ count: Int) -> Wide {
  if count == width { return wide_load(base) }
  var result = allWide(0)
  var lane = 0
  while lane < count {
    result[lane] = base[lane]
    lane &+= 1
  }
  return result
}

// MARK: - Rows made of terms

func mixRows(_ pointer: UnsafePointer<MixedRows>) {
  let c = pointer.pointee
  let output = c.output.assumingMemoryBound(to: Element.self)
  let first = Term(c.first)
  var second: Term?
  if let term = c.second { second = Term(term) }
  if c.stride != 1 {
    mixColumns(c, first, second, output)
    return
  }
  if c.size <= StridedRows.shortRow {
    mixShortRows(c, first, second, output)
    return
  }
  let isScaled = second == nil && first.isScaled
  var row = 0
  while row < c.count {
    let goal = output + row &* c.outputStep
    let factor = all(Scalar(first.factors[row]))
    if isScaled && areAll(keepDigits(factor)) {
      scaleRow(first.row(row).x, factor, goal, c.size)
    } else {
      mixRow(first, second, row, goal, c.size)
    }
    row &+= 1
  }
}

/// Whether factors keep their digits in float32.
@inline(__always)
private func keepDigits(_ factors: Lanes) -> Bits {
  let size = magnitude(factors)
  return lanes_less(all(0x1p-126), size) & lanes_less(size, all(0x1p127))
}

@inline(__always)
private func areAll(_ which: Bits) -> Bool { !anyLane(~which) }

/// Each element times a factor in the lanes' type: in float32 within 1 ulp, as torch's division by its norm is.
@inline(never)
private func scaleRow(_ x: Input, _ factor: Lanes, _ output: Output, _ size: Int) {
  emit(output, size) { load(x, $0) * factor }
}

private struct RowValues {
  var factor = allWide(0)
  var limit = all(0)

  @inline(__always)
  init() {}
}

private struct Term {
  let slope: RowSlope
  let x: Input
  let y: Input?
  let xStep: Int
  let yStep: Int
  let shift: Lanes
  let factors: UnsafePointer<Double>
  let limits: UnsafePointer<Double>?

  @inline(__always)
  init(_ term: RowTerm) {
    slope = term.slope
    x = term.x.assumingMemoryBound(to: Element.self)
    y = term.y?.assumingMemoryBound(to: Element.self)
    xStep = term.xStep
    yStep = term.yStep
    shift = all(Scalar(term.shift))
    factors = term.factors
    limits = term.limits
  }

  @inline(__always)
  private init(_ term: Term, row: Int) {
    slope = term.slope
    x = term.x + row &* term.xStep
    y = offset(term.y, row &* term.yStep)
    xStep = term.xStep
    yStep = term.yStep
    shift = term.shift
    factors = term.factors
    limits = term.limits
  }

  @inline(__always)
  func row(_ row: Int) -> Term { Term(self, row: row) }

  /// Whether a term alone is an operand times the row's factor.
  @inline(__always)
  var isScaled: Bool { slope == .linear && y == nil }

  /// A row's numbers in all lanes.
  @inline(__always)
  func values(_ row: Int) -> RowValues {
    var values = RowValues()
    values.factor = allWide(factors[row])
    if let limits { values.limit = all(Scalar(limits[row])) }
    return values
  }

  /// The numbers of `count` rows from `row` on, one a lane.
  @inline(__always)
  func values(_ row: Int, _ count: Int) -> RowValues {
    var values = RowValues()
    values.factor = wideNumbers(factors + row, count)
    if let limits { values.limit = numbers(limits + row, count) }
    return values
  }

  /// The products of `count` elements from `i` on.
  @inline(__always)
  func products(_ values: RowValues, _ i: Int, _ count: Int) -> Wide {
    products(values, loaded(x, i, count), loaded(y ?? x, i, count))
  }

  /// y counts where the term has one.
  @inline(__always)
  func products(_ values: RowValues, _ x: Lanes, _ y: Lanes) -> Wide {
    var d = self.y == nil ? x : (x - y) + shift
    if slope != .linear {
      let size = magnitude(d)
      let sign = lanes_pick(
        lanes_less(all(0), d), all(1), lanes_pick(lanes_less(d, all(0)), all(-1), all(0)))
      d = slope == .sign ? sign : lanes_pick(lanes_equal(size, values.limit), sign, all(0))
    }
    return wide_multiply(wide_of(d), values.factor)
  }
}

@inline(__always)
private func give(_ value: Wide, _ output: Output, _ count: Int) {
  let rounded = wide_narrowed(value)
  if count == width {
    lanes_store(output, rounded)
  } else {
    lanes_store_first(output, rounded, count)
  }
}

@inline(never)
private func mixRow(
  _ first: Term, _ second: Term?, _ row: Int, _ output: Output, _ size: Int
) {
  let (a, left) = (first.values(row), first.row(row))
  var (b, right) = (RowValues(), left)
  if let second { (b, right) = (second.values(row), second.row(row)) }
  let isSum = second != nil
  let end = size / width &* width
  var i = 0
  while i < end {
    give(mixed(left, a, right, b, isSum, i, width), output + i, width)
    i &+= width
  }
  if end < size {
    let rest = size &- end
    give(mixed(left, a, right, b, isSum, end, rest), output + end, rest)
  }
}

@inline(__always)
private func mixed(
  _ first: Term, _ a: RowValues, _ second: Term, _ b: RowValues, _ isSum: Bool, _ i: Int,
  _ count: Int
) -> Wide {
  let value = first.products(a, i, count)
  return isSum ? wide_add(value, second.products(b, i, count)) : value
}

/// Rows of few elements, a row a lane.
@inline(never)
private func mixShortRows(
  _ c: MixedRows, _ first: Term, _ second: Term?, _ output: Output
) {
  var (memory, more) = (GroupMemory(), GroupMemory())
  let (left, right) = (memory.tiles(), more.tiles())
  let operands = GroupOperands(first)
  let others = GroupOperands(second ?? first)
  let rows = StridedRows(count: c.count, size: c.size, step: c.outputStep, stride: 1)
  var row = 0
  while row < c.count {
    let count = c.count &- row < width ? c.count &- row : width
    operands.bring(row, count, c.size, left.tile, left.second)
    let a = first.values(row, count)
    var b = a
    if let second {
      others.bring(row, count, c.size, right.tile, right.second)
      b = second.values(row, count)
    }
    let factor = wide_narrowed(a.factor)
    let isScaled = second == nil && first.isScaled
    let keeps = isScaled ? keepDigits(factor) : Bits(repeating: 0)
    var i = 0
    if isScaled && areAll(keeps) {
      while i < c.size {
        put(fetch(left.tile, i &* width) * factor, left.flat, i &* width)
        i &+= 1
      }
    }
    while i < c.size {
      let place = i &* width
      var value = first.products(a, fetch(left.tile, place), fetch(operands.second(left), place))
      if let second {
        value = wide_add(
          value,
          second.products(b, fetch(right.tile, place), fetch(others.second(right), place)))
      }
      // A row whose factor keeps its digits is scaled as it is among others of its kind.
      let scaled = lanes_pick(keeps, fetch(left.tile, place) * factor, wide_narrowed(value))
      put(scaled, left.flat, place)
      i &+= 1
    }
    sendGroup(left.flat, output, rows, row, count, past: nil)
    row &+= width
  }
}

@inline(never)
private func mixColumns(_ c: MixedRows, _ first: Term, _ second: Term?, _ output: Output) {
  var line = 0
  while line < c.size {
    var column = 0
    while column < c.count {
      let count = c.count &- column < width ? c.count &- column : width
      let place = line &* c.stride &+ column
      var value = first.products(first.values(column, count), place, count)
      if let second {
        value = wide_add(value, second.products(second.values(column, count), place, count))
      }
      give(value, output + place, count)
      column &+= width
    }
    line &+= 1
  }
}

// Sums over rows, and rows made of terms: distances, norms and cosines with their gradients. One walk for rows that are
// contiguous, one for rows across memory; what is summed is looked up for each vector, in the shade of its loads. Types:
// all. Differences are rounded to the lanes' type as torch's are; products and sums are float64's, of float64 twice that.
internal import CLossdLanes
import LossdKernelTable

func sumRows(_ pointer: UnsafePointer<SummedRows>) {
  let c = pointer.pointee
  if c.stride != 1 {
    sumColumns(c)
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

  /// `isIn`: the lanes that count; nil: all.
  @inline(__always)
  mutating func add(
    _ sum: RowSum, _ x: Lanes, _ y: Lanes?, _ shift: Lanes, _ limit: Lanes, _ isIn: Bits? = nil
  ) {
    if sum == .products {
      // Lanes that do not count are zeros.
      first.add(x, times: x)
      if let y {
        second.add(x, times: y)
        third.add(y, times: y)
      }
      return
    }
    var d = magnitude(x)
    if let y { d = magnitude((x - y) + shift) }
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
  let end = size / width &* width
  var i = 0
  while i < end {
    totals.add(sum, load(x, i), loaded(y, i, width), shift, limit)
    i &+= width
  }
  if end < size {
    let rest = size &- end
    totals.add(
      sum, lanes_load_part(x + end, rest), loaded(y, end, rest), shift, limit,
      lanes_less(laneNumbers, all(Scalar(rest))))
  }
  return totals
}

@inline(__always)
private func loaded(_ base: Input?, _ i: Int, _ count: Int) -> Lanes? {
  guard let base else { return nil }
  return count == width ? load(base, i) : lanes_load_part(base + i, count)
}

/// Along the memory, a row a lane.
@inline(never)
private func sumColumns(_ c: SummedRows) {
  let x = c.x.assumingMemoryBound(to: Element.self)
  let y = c.y?.assumingMemoryBound(to: Element.self)
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
        c.sum, loaded(x, place, count).unsafelyUnwrapped, loaded(y, place, count), shift, limit)
      g &+= 1
    }
    line &+= 1
  }
  g = 0
  while g < groups {
    let goal = c.sums + g &* width
    let first = totals[g].first.wide
    wide_store(goal, wide_add(first, wide_of(totals[g].largest)))
    if c.sum == .products {
      wide_store(goal + c.room, totals[g].second.wide)
      wide_store(goal + 2 &* c.room, totals[g].third.wide)
    }
    g &+= 1
  }
}

/// A row's number in each lane.
@inline(__always)
private func numbers(_ base: UnsafePointer<Double>, _ count: Int) -> Lanes {
  wide_narrowed(wideNumbers(base, count))
}

@inline(__always)
private func wideNumbers(_ base: UnsafePointer<Double>, _ count: Int) -> Wide {
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
  var row = 0
  while row < c.count {
    mixRow(first, second, row, output + row &* c.outputStep, c.size)
    row &+= 1
  }
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
    var d = loaded(x, i, count).unsafelyUnwrapped
    if let y = loaded(y, i, count) { d = (d - y) + shift }
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

// Contiguous rows of more than `StridedRows.shortRow` elements, each in three sweeps: the maximum; exp and
// its sum; the results. A row stays in the cache between them. exp is what costs, and memory waits while it is
// computed: so the sweep over the exponentials of one row also looks for the maximum of the next, which
// brings that in, and writes the results of the one before.
internal import CLossdLanes

/// A row that is about to be computed: its elements in the lanes' type, and their maximum.
struct ReadyRow {
  var elements: UnsafePointer<Scalar>
  var maximum: Scalar
}

/// Parts of a scratch for rows of `size` elements.
struct RowScratch {
  private let base: Scratch
  private let partSize: Int

  @inline(__always)
  init(_ memory: UnsafeMutableRawPointer, _ size: Int) {
    base = memory.assumingMemoryBound(to: Scalar.self)
    partSize = (size &+ 15) / 16 &* 16 &+ 16
  }

  /// Where row `row`'s elements are widened to, and its exponentials kept: three rows take turns, the one
  /// that is written, the one that is computed and the one that is read.
  @inline(__always)
  func turn(_ row: Int) -> Scratch { base + row % 3 &* partSize }
}

/// The first row of a run. The maximum is the largest element that is not NaN, or perhaps NaN where there is
/// one: a NaN also reaches the sum of exponentials, and with it every result of the row.
@inline(never)
func readyRow(_ x: Input, _ count: Int, _ copy: Scratch) -> ReadyRow {
  // The last vector may overlap others; where lanes are NaN the others win.
  var a = larger(all(-.infinity), bring(x, count &- width, copy))
  var b = a
  var i = 0
  while i &+ 2 &* width <= count {
    a = larger(a, bring(x, i, copy))
    b = larger(b, bring(x, i &+ width, copy))
    i &+= 2 &* width
  }
  while i &+ width <= count {
    a = larger(a, bring(x, i, copy))
    i &+= width
  }
  return ReadyRow(elements: brought(x, copy), maximum: lanes_largest(larger(a, b)))
}

/// The larger in each lane; `a` where `b` is NaN.
@inline(__always)
func larger(_ a: Lanes, _ b: Lanes) -> Lanes { lanes_larger(a, b) }

/// Elements of a row, which 16-bit types keep widened in `copy`.
@inline(__always)
private func bring(_ x: Input, _ i: Int, _ copy: Scratch) -> Lanes {
  let value = load(x, i)
  #if LOSSD_NARROW
    put(value, copy, i)
  #endif
  return value
}

/// Where `bring` has left a row.
@inline(__always)
private func brought(_ x: Input, _ copy: Scratch) -> UnsafePointer<Scalar> {
  #if LOSSD_NARROW
    UnsafePointer(copy)
  #else
    x
  #endif
}

/// What a sweep over a row does beside its exponentials.
struct Sweep {
  /// Where the lifted exponentials go, which may be the row itself.
  var exponentials: Scratch
  /// The next row, to be made ready, or any other.
  var next: Input
  var copy: Scratch
}

/// The sum of exp(x - maximum) of a row; makes the next row ready. `keeps`: the exponentials are stored.
/// `beside` is called for each vector of the row with its first element, the exponentials and, for the last
/// one, which lanes it is the first to have; `behind` for each but that.
@inline(__always)
func sweep(
  _ row: inout ReadyRow, _ count: Int, _ plan: Sweep, keeps: Bool,
  beside: (Int, Lanes, Bits?) -> Void, behind: (Int) -> Void
) -> RowTotal {
  let x = row.elements
  let m = all(row.maximum)
  var sums = ExponentialSums()
  var largest = all(-.infinity)
  // Read before exponentials take their place.
  let last = fetch(x, count &- width)
  var i = 0
  while i &+ width <= count {
    let value = liftedExp(fetch(x, i) - m)
    if keeps { put(value, plan.exponentials, i) }
    sums.add(value)
    beside(i, value, nil)
    largest = larger(largest, bring(plan.next, i, plan.copy))
    behind(i)
    i &+= width
  }
  let rest = count &- i
  if rest > 0 {
    i = count &- width
    let value = liftedExp(last - m)
    if keeps { put(value, plan.exponentials, i) }
    let isNew = lanes_at_least(laneNumbers, all(Scalar(width &- rest)))
    sums.add(lanes_pick(isNew, value, all(0)))
    beside(i, value, isNew)
    largest = larger(largest, bring(plan.next, i, plan.copy))
  }
  row = ReadyRow(elements: brought(plan.next, plan.copy), maximum: lanes_largest(largest))
  return sums.total
}

/// The same with nothing beside or behind, for the sum alone.
@inline(never)
func plainSweep(_ row: inout ReadyRow, _ count: Int, _ plan: Sweep) -> RowTotal {
  sweep(&row, count, plan, keeps: false, beside: { _, _, _ in }, behind: { _ in })
}

/// sum(exp(x - maximum)) in float64 of one row of any length, of the lanes' type; the maximum to `m`.
func rowSum(
  _ x: UnsafePointer<Scalar>, _ count: Int, _ m: UnsafeMutablePointer<Double>
) -> Double {
  var largest = all(-.infinity)
  var sums = ExponentialSums()
  let whole = count / width &* width
  // Padded with what adds nothing.
  let rest = fetchSome(x + whole, count &- whole, -.infinity)
  var i = 0
  while i < whole {
    largest = larger(largest, fetch(x, i))
    i &+= width
  }
  let maximum = lanes_largest(larger(largest, rest))
  m.pointee = Double(maximum)
  i = 0
  while i < whole {
    sums.add(liftedExp(fetch(x, i) - maximum))
    i &+= width
  }
  if whole < count { sums.add(liftedExp(rest - maximum)) }
  return sums.total.value
}

/// `count` numbers, fewer than there are lanes, and `missing` in the other lanes.
@inline(__always)
private func fetchSome(_ x: UnsafePointer<Scalar>, _ count: Int, _ missing: Scalar) -> Lanes {
  var result = all(missing)
  var lane = 0
  while lane < count {
    result[lane] = x[lane]
    lane &+= 1
  }
  return result
}

/// y = factor exp(x - maximum), of the lanes' type, for x <= maximum.
func scaledExponentials(
  _ x: UnsafePointer<Scalar>, _ y: Scratch, _ count: Int, _ maximum: Double, _ factor: Double
) {
  let m = all(Scalar(maximum))
  let f = Scalar(factor * Double(Format.unlift))
  eachVector(count) { i in
    put(liftedExp(fetch(x, i) - m) * f, y, i)
  } rest: { first, rest in
    let last = liftedExp(fetchSome(x + first, rest, 0) - m) * f
    var lane = 0
    while lane < rest {
      y[first &+ lane] = last[lane]
      lane &+= 1
    }
  }
}

/// Calls `body` with the first element of each whole vector, and `rest` with what is left.
@inline(__always)
func eachVector(_ count: Int, _ body: (Int) -> Void, rest: (Int, Int) -> Void) {
  var i = 0
  while i &+ width <= count {
    body(i)
    i &+= width
  }
  if i < count { rest(i, count &- i) }
}

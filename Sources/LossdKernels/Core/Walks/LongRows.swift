// Contiguous rows of more than `StridedRows.shortRow` elements, each in three sweeps: the maximum;
// exp and its sum; the results. A row stays in the cache between them. exp is what costs, and
// memory waits while it is computed: so the sweep over the exponentials of one row also looks for
// the maximum of the next, which brings that in, and writes the results of the one before.
internal import CLossdLanes
import LossdKernelTable

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

  /// Where row `row`'s elements are widened to, and its exponentials kept: three rows take turns,
  /// the one that is written, the one that is computed and the one that is read.
  @inline(__always)
  func turn(_ row: Int) -> Scratch { base + row % 3 &* partSize }
}

/// The first row of a run. The maximum is the largest element that is not NaN, or perhaps NaN where
/// there is one: a NaN also reaches the sum of exponentials, and with it every result of the row.
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

/// The sum of exp(x - maximum) of a row; makes the next row ready. `keeps`: the exponentials are
/// stored. `beside` is called for each vector of the row with its first element, the exponentials
/// and, for the last one, which lanes it is the first to have; `behind` for each but that.
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

// MARK: - Results like x

func computeLongRows<F: SoftmaxFormula>(_ f: F.Type, _ rows: Rows) {
  let run = RowRun(rows)
  if let gradient = rows.gradient {
    writeGradients(f, rows, run, gradient)
  } else if let values = rows.values {
    writeValues(f, rows, run, values)
  }
}

/// Numbers of a row whose sum is known.
@inline(__always)
private func end<F: SoftmaxFormula>(
  _ f: F.Type, _ run: RowRun, _ row: Int, _ current: ReadyRow, _ total: RowTotal, keeps: Bool
) -> RowEnd {
  var end = RowEnd(
    start: run.start(row), kept: keeps ? UnsafePointer(run.scratch.turn(row)) : current.elements,
    maximum: current.maximum)
  if keeps { end.factor = total.factor }
  if !F.isOfExponentials { end.logarithm = Scalar(total.logarithm) }
  return end
}

@inline(never)
private func writeValues<F: SoftmaxFormula>(
  _ f: F.Type, _ rows: Rows, _ run: RowRun, _ values: Output
) {
  let keeps = F.isOfExponentials
  @inline(__always)
  func value(_ end: RowEnd, _ i: Int) -> (Lanes, Lanes) {
    let element = fetch(end.kept, i)
    return (f.value(RowOperands(x: element, exponential: element), end.numbers), all(0))
  }
  pipeline(
    run, keeps: keeps, to: RowOutputs(values, nil, isStreamed: rows.isStreamed),
    conclude: { end(f, run, $0, $1, $2, keeps: keeps) }, value: value)
}

/// The values too where they are wanted.
@inline(never)
private func writeGradients<F: SoftmaxFormula>(
  _ f: F.Type, _ rows: Rows, _ run: RowRun, _ gradient: Output
) {
  /// A closure that is called in several places would not be inlined.
  @inline(__always)
  func value(_ end: RowEnd, _ i: Int) -> (Lanes, Lanes) {
    var o = RowOperands(x: all(0), exponential: fetch(end.kept, i))
    o.y = rows.y(end.start &+ i)
    let slope = f.gradient(o, end.numbers)
    guard rows.values != nil else { return (slope, slope) }
    if !F.isOfExponentials { o.x = load(rows.x, end.start &+ i) }
    return (slope, f.value(o, end.numbers))
  }
  var sums = Sums()
  pipeline(
    run, keeps: true, to: RowOutputs(gradient, rows.values, isStreamed: rows.isStreamed),
    beside: { start, i, exponential, isNew in
      guard let y = rows.y else { return }
      f.add(
        RowOperands(x: exponential, exponential: exponential, y: load(y, start &+ i)), to: &sums,
        isNew)
    },
    conclude: { row, current, total in
      var end = end(f, run, row, current, total, keeps: true)
      let facts = RowFacts(
        isOne: true, total: wide_first(total.value), logarithm: wide_first(0),
        first: wide_first(sums.total))
      end.dot = Scalar(f.dot(facts, rows.constants)[0])
      sums = Sums()
      return end
    },
    value: value)
}

// MARK: - Losses

func evaluateLongRows<F: RowLossFormula>(_ f: F.Type, _ rows: Rows) {
  let run = RowRun(rows)
  if let gradient = rows.gradient {
    writeGradients(f, rows, run, gradient)
  } else {
    writeLosses(f, rows, run)
  }
}

/// Adds a vector of a row to what the formula sums up.
@inline(__always)
private func add<F: RowLossFormula>(
  _ f: F.Type, _ rows: Rows, _ place: Int, _ i: Int, _ maximum: Scalar, _ isNew: Bits?,
  to sums: inout RowSums
) {
  if !F.hasSums { return }
  let o = RowOperands(
    x: load(rows.x, place), exponential: all(0), maximum: all(maximum),
    y: F.hasLabels ? all(0) : rows.y(place), weight: rows.weights(i))
  f.add(o, to: &sums, isNew, rows.constants)
}

/// Writes a row's loss and returns what is known of the row.
@inline(__always)
private func setLoss<F: RowLossFormula>(
  _ f: F.Type, _ rows: Rows, _ run: RowRun, _ row: Int, _ maximum: Scalar, _ total: RowTotal,
  _ sums: RowSums
) -> RowFacts {
  let label = F.hasLabels ? rows.label(row) : 0
  let x = F.hasLabels && label >= 0 ? element_widened(rows.x[run.start(row) &+ label]) : maximum
  var facts = RowFacts(
    isOne: true, total: wide_first(total.value), logarithm: wide_first(total.logarithm),
    first: wide_first(F.hasSums ? sums.first.total : 0))
  if !F.hasLabels {
    facts.second = wide_first(sums.second.total)
    facts.largest = all(lanes_largest(sums.largest))
  }
  facts.weight = wide_first(rows.rowWeight(row))
  facts.scale = wide_first(label < 0 ? 0 : rows.scale(row))
  facts.distance = wide_first(Double(maximum) - Double(x))
  rows.setLoss(row, label < 0 ? 0 : f.loss(facts, rows.constants)[0])
  return facts
}

@inline(never)
private func writeLosses<F: RowLossFormula>(_ f: F.Type, _ rows: Rows, _ run: RowRun) {
  let size = rows.layout.size
  var ready = run.first()
  var row = 0
  while row < rows.layout.count {
    let (start, maximum) = (run.start(row), ready.maximum)
    var sums = RowSums()
    let total: RowTotal
    if F.hasSums {
      total = sweep(&ready, size, run.sweep(row), keeps: false) { i, _, isNew in
        add(f, rows, start &+ i, i, maximum, isNew, to: &sums)
      } behind: { _ in
      }
    } else {
      total = plainSweep(&ready, size, run.sweep(row))
    }
    _ = setLoss(f, rows, run, row, maximum, total, sums)
    row &+= 1
  }
}

@inline(never)
private func writeGradients<F: RowLossFormula>(
  _ f: F.Type, _ rows: Rows, _ run: RowRun, _ gradient: Output
) {
  @inline(__always)
  func value(_ end: RowEnd, _ i: Int) -> (Lanes, Lanes) {
    let o = RowOperands(
      x: all(0), exponential: fetch(end.kept, i),
      y: F.hasLabels ? all(0) : rows.y(end.start &+ i),
      weight: F.hasSums ? rows.weights(i) : all(1))
    let slope = f.gradient(o, end.numbers, rows.constants)
    return (F.hasLabels ? replacing(slope, i, end.place, end.own) : slope, all(0))
  }
  var sums = RowSums()
  var maximum: Scalar = 0
  pipeline(
    run, keeps: true, to: RowOutputs(gradient, nil, isStreamed: rows.isStreamed),
    prepare: {
      sums = RowSums()
      maximum = $1.maximum
    },
    beside: { start, i, _, isNew in
      add(f, rows, start &+ i, i, maximum, isNew, to: &sums)
    },
    conclude: { row, current, total in
      let facts = setLoss(f, rows, run, row, current.maximum, total, sums)
      return end(f, rows, run, row, facts)
    }, value: value)
}

/// What makes the gradient of the exponentials. Takes the lift off these where it has to.
@inline(__always)
private func end<F: RowLossFormula>(
  _ f: F.Type, _ rows: Rows, _ run: RowRun, _ row: Int, _ facts: RowFacts
) -> RowEnd {
  let (e, size) = (run.scratch.turn(row), rows.layout.size)
  let wideFactor = f.factor(facts, rows.constants)
  let factor = wideFactor[0]
  var end = RowEnd(
    start: run.start(row), kept: e, dot: Scalar(f.dot(facts, rows.constants)[0]), place: size)
  end.factor = Scalar(factor * Double(Format.unlift))
  if !F.hasLabels { return end }
  let label = rows.label(row)
  if label >= 0 {
    let exponential = wide_first(Double(e[label]) * Double(Format.unlift))
    let own = f.own(
      facts, rows.constants, factor: wideFactor, exponential: exponential,
      weight: wide_first(Double(rows.weight(label))))
    end.place = label
    end.own = Scalar(own[0])
  }
  // What is hardly more than nothing would lose digits with the exponentials' lift taken off it.
  if factor != 0 && factor.magnitude < Double(Format.smallestLifted) {
    end.factor = Scalar(factor)
    var i = 0
    while i < size {
      e[i] *= Format.unlift
      i &+= 1
    }
  }
  return end
}

// Cross entropy with class indices of contiguous rows of more than `StridedRows.shortRow` classes.
internal import CLossdLanes
import LossdKernelTable

func crossEntropyLongRows(_ call: CrossEntropyRows) {
  let c = EntropyCall(call)
  let run = RowRun(c.x, call.rows, call.scratch)
  if c.gradient == nil {
    losses(c, call, run)
  } else if c.isStreamed && c.smoothing == 0 {
    streamGradient(c, call, run)
  } else {
    gradients(c, call, run)
  }
}

/// What a row's loss is made of before its sum is known.
private struct Terms {
  /// m - x_y.
  var distance = 0.0
  /// sum_c w_c (m - x_c).
  var spread = 0.0

  @inline(__always)
  init(_ c: EntropyCall, _ x: Input, _ ready: ReadyRow, _ row: EntropyRow, _ size: Int) {
    if row.label >= 0 {
      distance = Double(ready.maximum) - Double(element_widened(x[row.label]))
    }
    if c.smoothing > 0 { spread = spreadTerm(c, ready, size) }
  }

  @inline(__always)
  func loss(_ c: EntropyCall, _ row: EntropyRow, _ total: RowTotal) -> Double {
    if row.label < 0 { return 0 }
    let logarithm = total.logarithm
    let nearest = (1 - c.smoothing) * row.weight * (distance + logarithm)
    return c.smoothing > 0
      ? nearest + c.share * (spread + c.classWeightSum * logarithm) : nearest
  }
}

@inline(never)
private func losses(_ c: EntropyCall, _ call: CrossEntropyRows, _ run: RowRun) {
  let size = run.rows.size
  var ready = run.first()
  var index = 0
  while index < run.rows.count {
    let x = c.x + run.start(index)
    let row = EntropyRow(call, index)
    let terms = Terms(c, x, ready, row, size)
    let plan = Sweep(
      exponentials: run.scratch.turn(index), next: run.next(index),
      copy: run.scratch.turn(index &+ 1))
    let total = plainSweep(&ready, size, plan, keeps: false, touched: nil)
    call.losses[index] = terms.loss(c, row, total)
    index &+= 1
  }
}

@inline(never)
private func gradients(_ c: EntropyCall, _ call: CrossEntropyRows, _ run: RowRun) {
  guard let gradient = c.gradient else { return }
  let size = run.rows.size
  var ready = run.first()
  var index = 0
  while index < run.rows.count {
    let (x, y) = (c.x + run.start(index), gradient + run.start(index))
    let row = EntropyRow(call, index)
    // The gradient may lie where the logits do: what is needed of them is read first.
    let terms = Terms(c, x, ready, row, size)
    // Where results are of the lanes' type the exponentials are kept there, and scaled in the cache.
    #if LOSSD_NARROW
      let e = run.scratch.turn(index)
    #else
      let e = y
    #endif
    let plan = Sweep(exponentials: e, next: run.next(index), copy: run.scratch.turn(index &+ 1))
    // The exponentials bring the lines in, unless they are kept elsewhere.
    let touched = isNarrow ? y : nil
    let total = plainSweep(&ready, size, plan, keeps: true, touched: touched)
    call.losses[index] = terms.loss(c, row, total)
    let end = conclude(c, row, e, size, total.value)
    if c.smoothing > 0 {
      let each = Scalar(end.each)
      emit(y, size) { fetch(e, $0) * end.factor - c.weights($0) * each }
    } else {
      emit(y, size) { fetch(e, $0) * end.factor }
    }
    if row.label >= 0 { y[row.label] = element_narrowed(end.own) }
    index &+= 1
  }
}

@inline(never)
private func streamGradient(_ c: EntropyCall, _ call: CrossEntropyRows, _ run: RowRun) {
  guard let gradient = c.gradient else { return }
  let size = run.rows.size
  streamRows(run, keeps: true, to: (gradient, nil)) { _, _, _, _ in
  } conclude: { index, current, total in
    let start = run.start(index)
    let row = EntropyRow(call, index)
    call.losses[index] = Terms(c, c.x + start, current, row, size).loss(c, row, total)
    let e = run.scratch.turn(index)
    let end = conclude(c, row, e, size, total.value)
    return RowEnd(
      start: start, kept: e, factor: end.factor, place: row.label < 0 ? size : row.label,
      own: end.own)
  } value: { end, i in
    (replacing(fetch(end.kept, i) * end.factor, i, end.place, end.own), all(0))
  }
}

/// sum_c w_c (m - x_c).
@inline(never)
private func spreadTerm(_ c: EntropyCall, _ row: ReadyRow, _ size: Int) -> Double {
  var sums = Sums()
  let m = all(row.maximum)
  let whole = size / width &* width
  let isNew = lanes_at_least(laneNumbers, all(Scalar(width &- (size &- whole))))
  var i = 0
  while i < whole {
    sums.add(difference: m, fetch(row.elements, i), times: c.weights(i))
    i &+= width
  }
  if whole < size {
    let last = size &- width
    sums.add(
      difference: m, fetch(row.elements, last), times: lanes_pick(isNew, c.weights(last), all(0)))
  }
  return sums.total
}

/// What makes the gradient of the exponentials, what is subtracted for each weight, and the gradient at the
/// label. Takes the lift off the exponentials where it has to.
@inline(never)
private func conclude(
  _ c: EntropyCall, _ row: EntropyRow, _ e: Scratch, _ size: Int, _ total: Double
) -> (factor: Scalar, each: Double, own: Scalar) {
  let (whole, ownFactor, each) = row.factors(c)
  let exact = whole / total
  let picked = row.label < 0 ? 0 : Double(e[row.label]) * Double(Format.unlift)
  let weight = row.label < 0 ? 0 : Double(c.weight(row.label))
  let own = Scalar(picked * exact - ownFactor - each * weight)
  // What is hardly more than nothing would lose digits with the exponentials' lift taken off it.
  if exact != 0 && exact.magnitude < Double(Format.smallestLifted) {
    var i = 0
    while i < size {
      e[i] *= Format.unlift
      i &+= 1
    }
    return (Scalar(exact), each, own)
  }
  return (Scalar(exact * Double(Format.unlift)), each, own)
}

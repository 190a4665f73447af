// Cross entropy with class indices of contiguous rows of more than `StridedRows.shortRow` classes.
internal import CLossdLanes
import LossdKernelTable

func crossEntropyLongRows(_ call: CrossEntropyRows) {
  let c = EntropyCall(call)
  let run = RowRun(c.x, call.rows, call.scratch)
  switch (c.gradient, c.smoothing > 0) {
  case (nil, _): losses(c, call, run)
  case (let y?, false): gradients(c, call, run, y)
  case (let y?, true): smoothGradients(c, call, run, y)
  }
}

/// What smoothing adds to a row's loss before its sum is known: sum_c w_c (m - x_c).
private struct Spread {
  private var sums = Sums()
  private var maximum = all(0)

  @inline(__always)
  init() {}

  @inline(__always)
  mutating func begin(_ row: ReadyRow) {
    sums = Sums()
    maximum = all(row.maximum)
  }

  @inline(__always)
  mutating func add(_ c: EntropyCall, _ x: Lanes, _ i: Int, _ isNew: Bits?) {
    let w = c.weights(i)
    sums.add(
      difference: maximum, x,
      times: isNew == nil ? w : lanes_pick(isNew.unsafelyUnwrapped, w, all(0)))
  }

  @inline(__always)
  var total: Double { sums.total }
}

@inline(__always)
private func loss(
  _ c: EntropyCall, _ row: EntropyRow, _ x: Input, _ maximum: Scalar, _ total: RowTotal,
  _ spread: Double
) -> Double {
  if row.label < 0 { return 0 }
  let logarithm = total.logarithm
  let distance = Double(maximum) - Double(element_widened(x[row.label]))
  let nearest = (1 - c.smoothing) * row.weight * (distance + logarithm)
  return c.smoothing > 0
    ? nearest + c.share * (spread + c.classWeightSum * logarithm) : nearest
}

@inline(never)
private func losses(_ c: EntropyCall, _ call: CrossEntropyRows, _ run: RowRun) {
  let size = run.rows.size
  var ready = run.first()
  var spread = Spread()
  var index = 0
  while index < run.rows.count {
    let x = c.x + run.start(index)
    let maximum = ready.maximum
    let total: RowTotal
    if c.smoothing > 0 {
      spread.begin(ready)
      total = sweep(&ready, size, run.sweep(index), keeps: false) { i, _, isNew in
        spread.add(c, load(x, i), i, isNew)
      } behind: { _ in
      }
    } else {
      total = plainSweep(&ready, size, run.sweep(index))
    }
    call.losses[index] = loss(
      c, EntropyRow(call, index), x, maximum, total, c.smoothing > 0 ? spread.total : 0)
    index &+= 1
  }
}

@inline(never)
private func gradients(
  _ c: EntropyCall, _ call: CrossEntropyRows, _ run: RowRun, _ y: Output
) {
  pipeline(run, keeps: true, to: RowOutputs(y, nil, isStreamed: c.isStreamed)) {
    index, current, total in
    let row = EntropyRow(call, index)
    let x = c.x + run.start(index)
    call.losses[index] = loss(c, row, x, current.maximum, total, 0)
    return conclude(c, row, run, index, total.value)
  } value: { end, i in
    (replacing(fetch(end.kept, i) * end.factor, i, end.place, end.own), all(0))
  }
}

@inline(never)
private func smoothGradients(
  _ c: EntropyCall, _ call: CrossEntropyRows, _ run: RowRun, _ y: Output
) {
  var spread = Spread()
  pipeline(run, keeps: true, to: RowOutputs(y, nil, isStreamed: c.isStreamed)) {
    spread.begin($1)
  } beside: { start, i, _, isNew in
    spread.add(c, load(c.x + start, i), i, isNew)
  } conclude: { index, current, total in
    let row = EntropyRow(call, index)
    let x = c.x + run.start(index)
    call.losses[index] = loss(c, row, x, current.maximum, total, spread.total)
    return conclude(c, row, run, index, total.value)
  } value: { end, i in
    let g = fetch(end.kept, i) * end.factor - c.weights(i) * end.less
    return (replacing(g, i, end.place, end.own), all(0))
  }
}

/// What makes the gradient of the exponentials. Takes the lift off these where it has to.
@inline(never)
private func conclude(
  _ c: EntropyCall, _ row: EntropyRow, _ run: RowRun, _ index: Int, _ total: Double
) -> RowEnd {
  let e = run.scratch.turn(index)
  let size = run.rows.size
  let (whole, ownFactor, each) = row.factors(c)
  let exact = whole / total
  var end = RowEnd(start: run.start(index), kept: e, less: Scalar(each), place: size)
  if row.label >= 0 {
    let picked = Double(e[row.label]) * Double(Format.unlift)
    end.place = row.label
    end.own = Scalar(picked * exact - ownFactor - each * Double(c.weight(row.label)))
  }
  // What is hardly more than nothing would lose digits with the exponentials' lift taken off it.
  let isTiny = exact != 0 && exact.magnitude < Double(Format.smallestLifted)
  end.factor = Scalar(isTiny ? exact : exact * Double(Format.unlift))
  if isTiny {
    var i = 0
    while i < size {
      e[i] *= Format.unlift
      i &+= 1
    }
  }
  return end
}

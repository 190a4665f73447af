// Softmax and log-softmax of contiguous rows of more than `StridedRows.shortRow` elements.
internal import CLossdLanes
import LossdKernelTable

/// The call with its pointers bound to this build's type.
struct SoftmaxCall {
  let x: Input
  let upstream: Input?
  let output: Output?
  let gradient: Output?
  let isLogarithmic: Bool
  let isStreamed: Bool

  @inline(__always)
  init(_ call: SoftmaxRows) {
    x = call.x.assumingMemoryBound(to: Element.self)
    upstream = call.upstream?.assumingMemoryBound(to: Element.self)
    output = call.output?.assumingMemoryBound(to: Element.self)
    gradient = call.gradient?.assumingMemoryBound(to: Element.self)
    isLogarithmic = call.isLogarithmic
    // A line that has just been read is in the cache already.
    let isInPlace = isAt(call.output, call.x) || isAt(call.gradient, call.x)
    isStreamed = call.isStreamed && !isInPlace && areAlike(output, gradient)
  }
}

func softmaxLongRows(_ call: SoftmaxRows) {
  let c = SoftmaxCall(call)
  let run = RowRun(c.x, call.rows, call.scratch)
  switch (c.gradient != nil, c.isLogarithmic) {
  case (false, false): c.isStreamed ? streamOutput(c, run) : softmax(c, run)
  case (false, true): c.isStreamed ? streamLogarithm(c, run) : logSoftmax(c, run)
  case (true, false): c.isStreamed ? streamGradient(c, run) : gradients(c, run)
  case (true, true): c.isStreamed ? streamLogGradient(c, run) : logGradients(c, run)
  }
}

/// What makes probabilities of lifted exponentials.
@inline(__always)
private func factor(_ total: RowTotal) -> Scalar { Scalar(Double(Format.unlift) / total.value) }

// MARK: - Through the cache

@inline(never)
private func softmax(_ c: SoftmaxCall, _ run: RowRun) {
  guard let output = c.output else { return }
  let size = run.rows.size
  var ready = run.first()
  var row = 0
  while row < run.rows.count {
    let y = output + run.start(row)
    // Where results are of the lanes' type the exponentials are kept there, and scaled in the cache.
    #if LOSSD_NARROW
      let e = run.scratch.turn(row)
    #else
      let e = y
    #endif
    let plan = Sweep(
      exponentials: e, next: run.next(row), copy: run.scratch.turn(row &+ 1))
    // The exponentials bring the lines in, unless they are kept elsewhere.
    let touched = isNarrow ? y : nil
    let f = factor(plainSweep(&ready, size, plan, keeps: true, touched: touched))
    emit(y, size) { fetch(e, $0) * f }
    row &+= 1
  }
}

@inline(never)
private func logSoftmax(_ c: SoftmaxCall, _ run: RowRun) {
  guard let output = c.output else { return }
  let size = run.rows.size
  var ready = run.first()
  var row = 0
  while row < run.rows.count {
    let y = output + run.start(row)
    let current = ready
    let plan = Sweep(
      exponentials: run.scratch.turn(row), next: run.next(row), copy: run.scratch.turn(row &+ 1))
    let total = sweep(&ready, size, plan, keeps: false) { _, _, _ in
    } behind: {
      touch(y, $0)
    }
    let logarithm = Scalar(total.logarithm)
    emit(y, size) { (fetch(current.elements, $0) - current.maximum) - logarithm }
    row &+= 1
  }
}

/// The sum of upstream gradients times exponentials, or of what else, as the sweep goes.
@inline(__always)
private func add(_ g: Input?, _ i: Int, _ e: Lanes, _ isNew: Bits?, _ sums: inout Sums) {
  guard let g else { return }
  let above = load(g, i)
  sums.add(isNew == nil ? above : lanes_pick(isNew.unsafelyUnwrapped, above, all(0)), times: e)
}

@inline(never)
private func gradients(_ c: SoftmaxCall, _ run: RowRun) {
  guard let gradient = c.gradient else { return }
  let size = run.rows.size
  var ready = run.first()
  var row = 0
  while row < run.rows.count {
    let start = run.start(row)
    let (y, g) = (gradient + start, offset(c.upstream, start))
    let e = run.scratch.turn(row)
    let plan = Sweep(exponentials: e, next: run.next(row), copy: run.scratch.turn(row &+ 1))
    let output = offset(c.output, start)
    var sums = Sums()
    let total = sweep(&ready, size, plan, keeps: true) {
      add(g, $0, $1, $2, &sums)
    } behind: {
      touch(y, $0)
      if let output { touch(output, $0) }
    }
    let (f, dot) = (factor(total), dotProduct(c, sums, total))
    if let output { emit(output, size) { fetch(e, $0) * f } }
    emit(y, size) { fetch(e, $0) * f * (above(g, $0) - dot) }
    row &+= 1
  }
}

/// sum(g p).
@inline(__always)
private func dotProduct(_ c: SoftmaxCall, _ sums: Sums, _ total: RowTotal) -> Scalar {
  // Without g 1, or NaN where the row has one.
  c.upstream == nil
    ? Scalar(total.value / total.value)
    : Scalar(sums.total * Double(Format.unlift) / total.value)
}

@inline(__always)
private func above(_ g: Input?, _ i: Int) -> Lanes {
  g == nil ? all(1) : load(g.unsafelyUnwrapped, i)
}

@inline(never)
private func logGradients(_ c: SoftmaxCall, _ run: RowRun) {
  guard let gradient = c.gradient else { return }
  let size = run.rows.size
  var ready = run.first()
  var row = 0
  while row < run.rows.count {
    let start = run.start(row)
    let (x, y, g) = (c.x + start, gradient + start, offset(c.upstream, start))
    let e = run.scratch.turn(row)
    let plan = Sweep(exponentials: e, next: run.next(row), copy: run.scratch.turn(row &+ 1))
    let output = offset(c.output, start)
    let m = ready.maximum
    var sums = Sums()
    let total = sweep(&ready, size, plan, keeps: true) { i, _, isNew in
      add(g, i, all(1), isNew, &sums)
    } behind: {
      touch(y, $0)
      if let output { touch(output, $0) }
    }
    let f = factor(total)
    let sum = g == nil ? Scalar(size) : Scalar(sums.total)
    if let output {
      let logarithm = Scalar(total.logarithm)
      emit(output, size) { (load(x, $0) - m) - logarithm }
    }
    emit(y, size) { above(g, $0) - fetch(e, $0) * f * sum }
    row &+= 1
  }
}

// MARK: - Past the cache

@inline(never)
private func streamOutput(_ c: SoftmaxCall, _ run: RowRun) {
  guard let output = c.output else { return }
  streamRows(run, keeps: true, to: (output, nil)) { _, _, _, _ in
  } conclude: { row, _, total in
    RowEnd(start: run.start(row), kept: run.scratch.turn(row), factor: factor(total))
  } value: { end, i in
    (fetch(end.kept, i) * end.factor, all(0))
  }
}

@inline(never)
private func streamLogarithm(_ c: SoftmaxCall, _ run: RowRun) {
  guard let output = c.output else { return }
  streamRows(run, keeps: false, to: (output, nil)) { _, _, _, _ in
  } conclude: { row, current, total in
    RowEnd(
      start: run.start(row), kept: current.elements, maximum: current.maximum,
      logarithm: Scalar(total.logarithm))
  } value: { end, i in
    ((fetch(end.kept, i) - end.maximum) - end.logarithm, all(0))
  }
}

@inline(never)
private func streamGradient(_ c: SoftmaxCall, _ run: RowRun) {
  guard let gradient = c.gradient else { return }
  var sums = Sums()
  streamRows(run, keeps: true, to: (gradient, c.output)) {
    add(offset(c.upstream, $0), $1, $2, $3, &sums)
  } conclude: { row, _, total in
    let dot = dotProduct(c, sums, total)
    sums = Sums()
    return RowEnd(
      start: run.start(row), kept: run.scratch.turn(row), factor: factor(total), less: dot)
  } value: { end, i in
    let p = fetch(end.kept, i) * end.factor
    return (p * (above(offset(c.upstream, end.start), i) - end.less), p)
  }
}

@inline(never)
private func streamLogGradient(_ c: SoftmaxCall, _ run: RowRun) {
  guard let gradient = c.gradient else { return }
  var sums = Sums()
  streamRows(run, keeps: true, to: (gradient, c.output)) { start, i, _, isNew in
    add(offset(c.upstream, start), i, all(1), isNew, &sums)
  } conclude: { row, current, total in
    let sum = c.upstream == nil ? Scalar(run.rows.size) : Scalar(sums.total)
    sums = Sums()
    return RowEnd(
      start: run.start(row), kept: run.scratch.turn(row), maximum: current.maximum,
      logarithm: Scalar(total.logarithm), factor: factor(total), less: sum)
  } value: { end, i in
    let p = fetch(end.kept, i) * end.factor
    let gradient = above(offset(c.upstream, end.start), i) - p * end.less
    guard c.output != nil else { return (gradient, gradient) }
    return (gradient, (load(c.x + end.start, i) - end.maximum) - end.logarithm)
  }
}

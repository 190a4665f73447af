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

  /// The upstream gradient of a row from an element on, or ones.
  @inline(__always)
  func above(_ start: Int, _ i: Int) -> Lanes {
    upstream == nil ? all(1) : load(upstream.unsafelyUnwrapped, start &+ i)
  }

  /// Adds upstream gradients times factors to a sum, of the lanes that are new.
  @inline(__always)
  func add(_ start: Int, _ i: Int, times factor: Lanes, _ isNew: Bits?, to sums: inout Sums) {
    guard upstream != nil else { return }
    let g = above(start, i)
    sums.add(isNew == nil ? g : lanes_pick(isNew.unsafelyUnwrapped, g, all(0)), times: factor)
  }
}

func softmaxLongRows(_ call: SoftmaxRows) {
  let c = SoftmaxCall(call)
  let run = RowRun(c.x, call.rows, call.scratch)
  switch (c.output, c.gradient, c.isLogarithmic) {
  case (let y?, nil, false): output(c, run, y)
  case (let y?, nil, true): logarithm(c, run, y)
  case (_, let z?, false): gradients(c, run, z)
  case (_, let z?, true): logGradients(c, run, z)
  case (nil, nil, _): break
  }
}

/// What makes probabilities of lifted exponentials.
@inline(__always)
private func factor(_ total: RowTotal) -> Scalar { Scalar(Double(Format.unlift) / total.value) }

@inline(never)
private func output(_ c: SoftmaxCall, _ run: RowRun, _ y: Output) {
  pipeline(run, keeps: true, to: RowOutputs(y, nil, isStreamed: c.isStreamed)) { row, _, total in
    RowEnd(start: run.start(row), kept: run.scratch.turn(row), factor: factor(total))
  } value: { end, i in
    (fetch(end.kept, i) * end.factor, all(0))
  }
}

@inline(never)
private func logarithm(_ c: SoftmaxCall, _ run: RowRun, _ y: Output) {
  pipeline(run, keeps: false, to: RowOutputs(y, nil, isStreamed: c.isStreamed)) {
    row, current, total in
    RowEnd(
      start: run.start(row), kept: current.elements, maximum: current.maximum,
      logarithm: Scalar(total.logarithm))
  } value: { end, i in
    ((fetch(end.kept, i) - end.maximum) - end.logarithm, all(0))
  }
}

/// The output too where it is wanted.
@inline(never)
private func gradients(_ c: SoftmaxCall, _ run: RowRun, _ z: Output) {
  var sums = Sums()
  let outputs = RowOutputs(z, c.output, isStreamed: c.isStreamed)
  pipeline(
    run, keeps: true, to: outputs,
    beside: { c.add($0, $1, times: $2, $3, to: &sums) },
    conclude: { row, _, total in
      // Without an upstream gradient 1, or NaN where the row has one.
      let dot =
        c.upstream == nil
        ? total.value / total.value : sums.total * Double(Format.unlift) / total.value
      sums = Sums()
      return RowEnd(
        start: run.start(row), kept: run.scratch.turn(row), factor: factor(total),
        less: Scalar(dot))
    },
    value: { end, i in
      let p = fetch(end.kept, i) * end.factor
      return (p * (c.above(end.start, i) - end.less), p)
    })
}

@inline(never)
private func logGradients(_ c: SoftmaxCall, _ run: RowRun, _ z: Output) {
  var sums = Sums()
  let outputs = RowOutputs(z, c.output, isStreamed: c.isStreamed)
  pipeline(
    run, keeps: true, to: outputs,
    beside: { start, i, _, isNew in c.add(start, i, times: all(1), isNew, to: &sums) },
    conclude: { row, current, total in
      let sum = c.upstream == nil ? Scalar(run.rows.size) : Scalar(sums.total)
      sums = Sums()
      return RowEnd(
        start: run.start(row), kept: run.scratch.turn(row), maximum: current.maximum,
        logarithm: Scalar(total.logarithm), factor: factor(total), less: sum)
    },
    value: { end, i in
      let gradient = c.above(end.start, i) - fetch(end.kept, i) * end.factor * end.less
      guard c.output != nil else { return (gradient, gradient) }
      return (gradient, (load(c.x + end.start, i) - end.maximum) - end.logarithm)
    })
}

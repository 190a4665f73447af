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
    isStreamed = call.isStreamed && !isInPlace
  }
}

func softmaxLongRows(_ call: SoftmaxRows) {
  let c = SoftmaxCall(call)
  let (count, size, step) = (call.rows.count, call.rows.size, call.rows.step)
  let scratch = RowScratch(call.scratch, size)
  var ready = readyRow(c.x, size, scratch.turn(0))
  var row = 0
  while row < count {
    let start = row &* step
    let place = SoftmaxPlace(c, start)
    let keeps = !c.isLogarithmic || c.gradient != nil
    let e = exponentialsPlace(c, start, scratch.turn(row))
    let touched = c.isStreamed ? place.x : UnsafePointer(place.output ?? place.gradient) ?? place.x
    let plan = Sweep(
      exponentials: keeps ? e : nil, next: row &+ 1 < count ? place.x + step : nil,
      copy: scratch.turn(row &+ 1),
      touched: (
        touched, c.isStreamed ? place.x : UnsafePointer(place.gradient) ?? place.x,
        place.upstream ?? place.x
      ))
    let current = ready
    let total = sweep(&ready, size, plan)
    if let y = place.gradient {
      finishGradient(c, place, y, current, e, size, total)
    } else if let y = place.output {
      finishOutput(c, y, current, e, size, total)
    }
    row &+= 1
  }
}

/// One row of each tensor.
private struct SoftmaxPlace {
  let x: Input
  let upstream: Input?
  let output: Output?
  let gradient: Output?

  @inline(__always)
  init(_ c: SoftmaxCall, _ start: Int) {
    x = c.x + start
    upstream = offset(c.upstream, start)
    output = offset(c.output, start)
    gradient = offset(c.gradient, start)
  }
}

/// Where the exponentials of a row are kept: where softmax's results go, if these are of the lanes' type and
/// only have to be scaled in the cache; else in scratch.
@inline(__always)
private func exponentialsPlace(_ c: SoftmaxCall, _ start: Int, _ scratch: Scratch) -> Scratch {
  #if !LOSSD_NARROW
    if !c.isLogarithmic && !c.isStreamed && c.gradient == nil, let output = c.output {
      return output + start
    }
  #endif
  return scratch
}

@inline(never)
private func finishOutput(
  _ c: SoftmaxCall, _ y: Output, _ row: ReadyRow, _ e: Scratch, _ size: Int, _ total: RowTotal
) {
  if c.isLogarithmic {
    let (m, logarithm, x) = (row.maximum, Scalar(total.logarithm), row.elements)
    if c.isStreamed {
      emitPast(y, size) { (fetch(x, $0) - m) - logarithm }
    } else {
      emit(y, size) { (fetch(x, $0) - m) - logarithm }
    }
    return
  }
  let factor = Scalar(Double(Format.unlift) / total.value)
  if c.isStreamed {
    emitPast(y, size) { fetch(e, $0) * factor }
  } else {
    emit(y, size) { fetch(e, $0) * factor }
  }
}

/// The gradient, and the output where it is wanted too; `e` is scratch.
@inline(never)
private func finishGradient(
  _ c: SoftmaxCall, _ place: SoftmaxPlace, _ y: Output, _ row: ReadyRow, _ e: Scratch,
  _ size: Int, _ total: RowTotal
) {
  let factor = Scalar(Double(Format.unlift) / total.value)
  let dot = upstreamSum(c, place.upstream, e, size, total)
  if let output = place.output {
    if c.isLogarithmic {
      let (m, logarithm, x) = (row.maximum, Scalar(total.logarithm), place.x)
      write(c, output, size) { (load(x, $0) - m) - logarithm }
    } else {
      write(c, output, size) { fetch(e, $0) * factor }
    }
  }
  guard let g = place.upstream else {
    let d = 1 - dot
    if c.isLogarithmic {
      write(c, y, size) { 1 - fetch(e, $0) * factor * dot }
    } else {
      write(c, y, size) { fetch(e, $0) * factor * d }
    }
    return
  }
  if c.isLogarithmic {
    write(c, y, size) { load(g, $0) - fetch(e, $0) * factor * dot }
  } else {
    write(c, y, size) { fetch(e, $0) * factor * (load(g, $0) - dot) }
  }
}

@inline(__always)
private func write(_ c: SoftmaxCall, _ y: Output, _ size: Int, _ value: (Int) -> Lanes) {
  if c.isStreamed { emitPast(y, size, value) } else { emit(y, size, value) }
}

/// sum(g p), or sum(g) for log-softmax.
@inline(never)
private func upstreamSum(
  _ c: SoftmaxCall, _ upstream: Input?, _ e: Scratch, _ size: Int, _ total: RowTotal
) -> Scalar {
  guard let g = upstream else {
    // 1, or NaN where the row has one.
    return c.isLogarithmic ? Scalar(size) : Scalar(total.value / total.value)
  }
  var sums = Sums()
  let whole = size / width &* width
  let isNew = lanes_at_least(laneNumbers, all(Scalar(width &- (size &- whole))))
  var i = 0
  if c.isLogarithmic {
    while i < whole {
      sums.add(load(g, i))
      i &+= width
    }
    if whole < size { sums.add(lanes_pick(isNew, load(g, size &- width), all(0))) }
    return Scalar(sums.total)
  }
  while i < whole {
    sums.add(load(g, i), times: fetch(e, i))
    i &+= width
  }
  if whole < size {
    sums.add(lanes_pick(isNew, load(g, size &- width), all(0)), times: fetch(e, size &- width))
  }
  return Scalar(sums.total * Double(Format.unlift) / total.value)
}

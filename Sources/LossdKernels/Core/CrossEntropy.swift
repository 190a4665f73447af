// Cross entropy with class indices, forward and gradient together; CrossEntropyRows has the formulas.
internal import CLossdLanes
import LossdKernelTable

/// The call with its pointers bound to this build's type.
struct EntropyCall {
  let x: Input
  let gradient: Output?
  let classWeights: Input?
  let smoothing: Double
  let classWeightSum: Double
  /// What smoothing gives to each class.
  let share: Double
  let isStreamed: Bool

  @inline(__always)
  init(_ call: CrossEntropyRows) {
    x = call.x.assumingMemoryBound(to: Element.self)
    gradient = call.gradient?.assumingMemoryBound(to: Element.self)
    classWeights = call.classWeights?.assumingMemoryBound(to: Element.self)
    smoothing = call.smoothing
    classWeightSum = call.classWeightSum
    share = call.smoothing / Double(call.rows.size)
    // A line that has just been read is in the cache already.
    isStreamed = call.isStreamed && !isAt(call.gradient, call.x)
  }

  @inline(__always)
  func weight(_ c: Int) -> Scalar {
    classWeights == nil ? 1 : element_widened(classWeights.unsafelyUnwrapped[c])
  }

  @inline(__always)
  func weights(_ c: Int) -> Lanes {
    classWeights == nil ? all(1) : load(classWeights.unsafelyUnwrapped, c)
  }
}

/// What is known of each row.
struct EntropyRow {
  let label: Int
  let weight: Double
  let scale: Double

  @inline(__always)
  init(_ call: CrossEntropyRows, _ row: Int) {
    label = Int(call.labels[row])
    weight = call.rowWeights == nil ? 1 : call.rowWeights.unsafelyUnwrapped[row]
    scale = call.scales == nil ? call.scale : call.scales.unsafelyUnwrapped[row]
  }

  /// What the gradient is made of: `all` p - `own` [c = y] - `each` w_c.
  @inline(__always)
  func factors(_ c: EntropyCall) -> (all: Double, own: Double, each: Double) {
    if label < 0 { return (0, 0, 0) }
    let own = scale * (1 - c.smoothing) * weight
    let each = scale * c.share
    return (own + each * c.classWeightSum, own, each)
  }
}

func crossEntropyRows(_ pointer: UnsafePointer<CrossEntropyRows>) {
  let call = pointer.pointee
  if call.rows.stride != 1 {
    crossEntropyColumns(call)
  } else if call.rows.size > StridedRows.shortRow {
    crossEntropyLongRows(call)
  } else {
    crossEntropyShortRows(call)
  }
}

// MARK: - Long rows

private func crossEntropyLongRows(_ call: CrossEntropyRows) {
  let c = EntropyCall(call)
  let (count, size, step) = (call.rows.count, call.rows.size, call.rows.step)
  let scratch = RowScratch(call.scratch, size)
  var ready = readyRow(c.x, size, scratch.turn(0))
  var index = 0
  while index < count {
    let x = c.x + index &* step
    let row = EntropyRow(call, index)
    let gradient = offset(c.gradient, index &* step)
    let e = exponentialsPlace(c, gradient, scratch.turn(index))
    // The gradient may lie where the logits do: what is needed of them is read first.
    let m = Double(ready.maximum)
    let distance = row.label >= 0 ? m - Double(element_widened(x[row.label])) : 0
    let spread = c.smoothing > 0 ? spreadTerm(c, ready, size) : 0
    let touched = c.isStreamed ? x : UnsafePointer(gradient) ?? x
    let plan = Sweep(
      exponentials: gradient == nil ? nil : e,
      next: index &+ 1 < count ? x + step : nil, copy: scratch.turn(index &+ 1),
      touched: (touched, x, x))
    let total = sweep(&ready, size, plan)
    let logarithm = total.logarithm
    let nearest = (1 - c.smoothing) * row.weight * (distance + logarithm)
    let smooth = c.smoothing > 0 ? c.share * (spread + c.classWeightSum * logarithm) : 0
    call.losses[index] = row.label >= 0 ? nearest + smooth : 0
    if let y = gradient { finishRow(c, row, y, e, size, total.value) }
    index &+= 1
  }
}

/// Where the exponentials are kept: where the gradient goes if that is of the lanes' type and only has to be
/// scaled in the cache; else in scratch.
@inline(__always)
private func exponentialsPlace(_ c: EntropyCall, _ gradient: Output?, _ scratch: Scratch) -> Scratch
{
  #if !LOSSD_NARROW
    if !c.isStreamed, let gradient { return gradient }
  #endif
  return scratch
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

/// From the exponentials to the gradient.
@inline(never)
private func finishRow(
  _ c: EntropyCall, _ row: EntropyRow, _ y: Output, _ e: Scratch, _ size: Int, _ total: Double
) {
  let (whole, ownFactor, each) = row.factors(c)
  let exact = whole / total
  let place = row.label < 0 ? size : row.label
  let picked = row.label < 0 ? 0 : Double(e[row.label]) * Double(Format.unlift)
  let weight = row.label < 0 ? 0 : Double(c.weight(row.label))
  let own = Scalar(picked * exact - ownFactor - each * weight)
  // What is hardly more than nothing would lose digits with the exponentials' lift taken off it.
  let isTiny = exact != 0 && exact.magnitude < Double(Format.smallestLifted)
  let factor = Scalar(isTiny ? exact : exact * Double(Format.unlift))
  if isTiny { unlift(e, size) }
  if each != 0 {
    let each = Scalar(each)
    write(c, y, size) {
      replacing(fetch(e, $0) * factor - c.weights($0) * each, $0, place, own)
    }
  } else if c.isStreamed {
    emitPast(y, size) { replacing(fetch(e, $0) * factor, $0, place, own) }
  } else {
    emit(y, size) { fetch(e, $0) * factor }
    if row.label >= 0 { y[row.label] = element_narrowed(own) }
  }
}

@inline(never)
private func unlift(_ e: Scratch, _ size: Int) {
  var i = 0
  while i < size {
    e[i] *= Format.unlift
    i &+= 1
  }
}

@inline(__always)
private func write(_ c: EntropyCall, _ y: Output, _ size: Int, _ value: (Int) -> Lanes) {
  if c.isStreamed { emitPast(y, size, value) } else { emit(y, size, value) }
}

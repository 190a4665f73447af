import LossdKernelTable

// Cross entropy with class probabilities. With t the target, e the smoothing, C classes and w the weights,
// v_c = w_c (t_c (1 - e) + e / C), the loss of a position is sum_c v_c (lse - x_c) and its gradient, times
// the position's scale, softmax(x)_c sum(v) - v_c.

private struct Rows {
  let x: Input
  let target: Input
  let gradient: Output?
  let weights: Input?
  let share: Scalar
  let smooth: Scalar

  @inline(always)
  init(_ call: ProbabilityRows) {
    x = call.x.assumingMemoryBound(to: Scalar.self)
    target = call.target.assumingMemoryBound(to: Scalar.self)
    gradient = call.gradient?.assumingMemoryBound(to: Scalar.self)
    weights = call.classWeights?.assumingMemoryBound(to: Scalar.self)
    share = Scalar(1 - call.smoothing)
    smooth = Scalar(call.smoothing / Double(call.classes))
  }
}

func probabilityRows(_ pointer: UnsafePointer<ProbabilityRows>) {
  let call = pointer.pointee
  let rows = Rows(call)
  let (count, classes, step, stride) = (call.count, call.classes, call.step, call.stride)
  var position = 0
  if stride == 1 && classes <= shortRow {
    var input = Tile()
    var target = Tile()
    let t = input.pointer()
    let u = target.pointer()
    while position &+ width <= count {
      let start = position &* step
      turnIn(rows.x + start, classes, t)
      turnIn(rows.target + start, classes, u)
      group(call, rows, position, t, u, rows.gradient == nil ? nil : t, width)
      if let gradient = rows.gradient { turnOut(t, classes, gradient + start) }
      position &+= width
    }
  } else if step == 1 && stride != 1 {
    while position < count {
      let part = count &- position < width ? count &- position : width
      var gradient: Output?
      if let base = rows.gradient { gradient = base + position }
      if part == width {
        group(call, rows, position, rows.x + position, rows.target + position, gradient, stride)
      } else {
        someColumns(
          call, rows, position, rows.x + position, rows.target + position, gradient, stride, part)
      }
      position &+= part
    }
  }
  while position < count {
    row(call, rows, position)
    position &+= 1
  }
}

/// A contiguous row.
@inline(never)
private func row(_ call: ProbabilityRows, _ rows: Rows, _ position: Int) {
  let start = position &* call.step
  let (x, target) = (rows.x + start, rows.target + start)
  var y: Output?
  if let gradient = rows.gradient { y = gradient + start }
  let m = maximum(x, call.classes)
  // The exponentials, which may replace the logits, come after what needs those.
  var terms = Sums()
  var shares = Sums()
  var c = 0
  while c < call.classes {
    let count = call.classes &- c < width ? call.classes &- c : width
    let v = weighed(rows, load(target, c, count: count), c, count)
    // Beyond the end x is set to the maximum, so that the term is 0 and not NaN.
    var distance = load(x, c, count: count) - m
    var lane = count
    while lane < width {
      distance[lane] = 0
      lane &+= 1
    }
    terms.add(v * distance)
    shares.add(v)
    c &+= width
  }
  var total: RowTotal
  if let y {
    total = exponentials(x, call.classes, m, y)
  } else {
    total = sumOfExponentials(x, call.classes, m)
  }
  let share = sumOfLanes(&shares).value
  call.losses[position] = total.logarithm * share - sumOfLanes(&terms).value
  guard let y, let scales = call.scales else { return }
  let scale = scales[position]
  let factor = Scalar(scale * share / total.value)
  c = 0
  while c < call.classes {
    let count = call.classes &- c < width ? call.classes &- c : width
    let v = weighed(rows, load(target, c, count: count), c, count)
    store(load(y, c, count: count) * factor - v * Scalar(scale), y, c, count: count)
    c &+= width
  }
}

/// v of consecutive classes; 0 behind the end.
@inline(always)
private func weighed(_ rows: Rows, _ target: Lanes, _ c: Int, _ count: Int) -> Lanes {
  var v = target * rows.share + rows.smooth
  if let weights = rows.weights {
    v *= load(weights, c, count: count)
  } else if count < width {
    var lane = count
    while lane < width {
      v[lane] = 0
      lane &+= 1
    }
  }
  return v
}

/// `width` positions in the lanes.
@inline(never)
private func group(
  _ call: ProbabilityRows, _ rows: Rows, _ position: Int, _ x: Input, _ target: Input,
  _ y: Output?, _ stride: Int
) {
  group(call, rows, position, x, target, y, stride, width)
}

@inline(never)
private func someColumns(
  _ call: ProbabilityRows, _ rows: Rows, _ position: Int, _ x: Input, _ target: Input,
  _ y: Output?, _ stride: Int, _ count: Int
) {
  group(call, rows, position, x, target, y, stride, count)
}

/// `count` positions in the lanes.
@inline(always)
private func group(
  _ call: ProbabilityRows, _ rows: Rows, _ position: Int, _ x: Input, _ target: Input,
  _ y: Output?, _ stride: Int, _ count: Int
) {
  let m = columnMaxima(x, call.classes, stride, count)
  var terms = Sums()
  var shares = Sums()
  var sums = Sums()
  var c = 0
  while c < call.classes {
    let place = c &* stride
    let v = weighedColumn(rows, target, c, stride, count)
    let distance = load(x, place, count: count) - m
    let e = expNonPositive(distance)
    if let y { store(e, y, place, count: count) }
    terms.add(v * distance)
    shares.add(v)
    sums.add(e)
    c &+= 1
  }
  let (high, low) = logOfSums(sums)
  var factor = Lanes(repeating: 0)
  var scale = Lanes(repeating: 0)
  var lane = 0
  while lane < count {
    let logarithm = Double(high[lane]) + Double(low[lane])
    call.losses[position &+ lane] = logarithm * shares[lane] - terms[lane]
    if let scales = call.scales {
      factor[lane] = Scalar(scales[position &+ lane] * shares[lane] / sums[lane])
      scale[lane] = Scalar(scales[position &+ lane])
    }
    lane &+= 1
  }
  guard let y else { return }
  c = 0
  while c < call.classes {
    let v = weighedColumn(rows, target, c, stride, count)
    let p = load(y, c &* stride, count: count) * factor
    store(p - v * scale, y, c &* stride, count: count)
    c &+= 1
  }
}

@inline(always)
private func weighedColumn(
  _ rows: Rows, _ target: Input, _ c: Int, _ stride: Int, _ count: Int
) -> Lanes {
  let v = load(target, c &* stride, count: count) * rows.share + rows.smooth
  if let weights = rows.weights { return v * weights[c] }
  return v
}

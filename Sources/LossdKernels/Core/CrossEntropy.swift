import LossdKernelTable

// Cross entropy with class indices, forward and gradient together. With p = softmax(x), w the weights,
// W their sum, e the smoothing, C classes and y the label, the loss of a position is
//   (1 - e) w_y (lse - x_y) + e / C * sum_c w_c (lse - x_c)
// and its gradient, times the position's scale s,
//   s ((1 - e) w_y + e W / C) p_c - s (1 - e) w_y [c = y] - s e w_c / C.

/// The call with its pointers bound to this build's type.
private struct Rows {
  let call: CrossEntropyRows
  let x: Input
  let gradient: Output?
  let classWeights: Input?

  @inline(always)
  init(_ call: CrossEntropyRows) {
    self.call = call
    x = call.x.assumingMemoryBound(to: Scalar.self)
    gradient = call.gradient?.assumingMemoryBound(to: Scalar.self)
    classWeights = call.classWeights?.assumingMemoryBound(to: Scalar.self)
  }

  @inline(always)
  func weight(_ c: Int) -> Scalar { classWeights == nil ? 1 : classWeights.unsafelyUnwrapped[c] }

  @inline(always)
  var smooths: Bool { call.smoothing > 0 }
}

func crossEntropyRows(_ call: UnsafePointer<CrossEntropyRows>) {
  let rows = Rows(call.pointee)
  let (count, classes, step, stride) = (
    rows.call.count, rows.call.classes, rows.call.step, rows.call.stride
  )
  var position = 0
  if stride == 1 && classes <= shortRow {
    var input = Tile()
    let t = input.pointer()
    while position &+ width <= count {
      let start = position &* step
      turnIn(rows.x + start, classes, t)
      group(rows, position, t, rows.gradient == nil ? nil : t, width, width)
      if let gradient = rows.gradient { turnOut(t, classes, gradient + start) }
      position &+= width
    }
  } else if step == 1 && stride != 1 {
    while position < count {
      var gradient: Output?
      if let base = rows.gradient { gradient = base + position }
      let part = count &- position < width ? count &- position : width
      group(rows, position, rows.x + position, gradient, stride, part)
      position &+= part
    }
  }
  while position < count {
    row(rows, position)
    position &+= 1
  }
}

/// What a position's gradient is made of: `all` p - `own` [c = y] - `each` w_c.
private struct Factors {
  var all = 0.0
  var own = 0.0
  var each = 0.0

  @inline(always)
  init(_ rows: Rows, _ position: Int) {
    guard let scales = rows.call.scales else { return }
    let scale = scales[position]
    own = scale * (1 - rows.call.smoothing) * rows.call.rowWeights[position]
    all = own
    if rows.smooths && rows.call.labels[position] >= 0 {
      each = scale * rows.call.smoothing / Double(rows.call.classes)
      all += each * rows.call.classWeightSum
    }
  }
}

/// The loss; `nearest` is lse - x_y and `smooth` sum_c w_c (lse - x_c).
@inline(always)
private func loss(_ rows: Rows, _ position: Int, _ nearest: Double, _ smooth: Double) -> Double {
  var result = (1 - rows.call.smoothing) * rows.call.rowWeights[position] * nearest
  if rows.smooths { result += rows.call.smoothing / Double(rows.call.classes) * smooth }
  return result
}

/// sum_c w_c (lse - x_c) of one position, with what each addition rounds away.
private func smoothTerm(
  _ rows: Rows, _ x: Input, _ stride: Int, _ m: Scalar, _ logarithm: Double
) -> Double {
  var total = RowTotal()
  var c = 0
  while c < rows.call.classes {
    total.add(Double(rows.weight(c)) * ((Double(m) - Double(x[c &* stride])) + logarithm))
    c &+= 1
  }
  return total.value
}

/// A contiguous row.
@inline(never)
private func row(_ rows: Rows, _ position: Int) {
  let x = rows.x + position &* rows.call.step
  let classes = rows.call.classes
  let label = Int(rows.call.labels[position])
  var y: Output?
  if let gradient = rows.gradient { y = gradient + position &* rows.call.step }
  if label < 0 && y == nil {
    rows.call.losses[position] = 0
    return
  }
  let m = maximum(x, classes)
  // The gradient may lie where the logits do: what is needed of them is read first.
  let distance = label >= 0 ? Double(m) - Double(x[label]) : 0
  let isSmooth = rows.smooths && label >= 0
  var total: RowTotal
  if isSmooth {
    total = sumOfExponentials(x, classes, m)
    let logarithm = total.logarithm
    rows.call.losses[position] = loss(
      rows, position, distance + logarithm, smoothTerm(rows, x, 1, m, logarithm))
    if let y { total = exponentials(x, classes, m, y) }
  } else {
    if let y {
      total = exponentials(x, classes, m, y)
    } else {
      total = sumOfExponentials(x, classes, m)
    }
    rows.call.losses[position] =
      label >= 0 ? loss(rows, position, distance + total.logarithm, 0) : 0
  }
  if let y { finishRow(rows, position, y, total.value, label) }
}

/// From the exponentials to the gradient.
@inline(never)
private func finishRow(
  _ rows: Rows, _ position: Int, _ y: Output, _ total: Double, _ label: Int
) {
  let factors = Factors(rows, position)
  let all = factors.all / total
  let own = label >= 0 ? Double(y[label]) * all - factors.own : 0
  scale(y, rows.call.classes, Scalar(all))
  if label < 0 { return }
  y[label] = Scalar(own)
  if factors.each == 0 { return }
  var c = 0
  while c < rows.call.classes {
    y[c] -= Scalar(factors.each * Double(rows.weight(c)))
    c &+= 1
  }
}

/// `count` positions, at most `width`, in the lanes.
@inline(never)
private func group(
  _ rows: Rows, _ position: Int, _ x: Input, _ y: Output?, _ stride: Int, _ count: Int
) {
  let labels = rows.call.labels + position
  let classes = rows.call.classes
  // Read before the gradient is written, which may be in the same place.
  var picked = Lanes(repeating: 0)
  var lane = 0
  while lane < count {
    if labels[lane] >= 0 { picked[lane] = x[Int(labels[lane]) &* stride &+ lane] }
    lane &+= 1
  }
  var columns = ColumnStatistics()
  columnStatistics(x, rows.smooths ? nil : y, classes, stride, count, into: &columns)
  lane = 0
  while lane < count {
    var result = 0.0
    if labels[lane] >= 0 {
      let (m, logarithm) = (columns.maximum[lane], columns.logarithm(lane))
      let smooth = rows.smooths ? smoothTerm(rows, x + lane, stride, m, logarithm) : 0
      let nearest = (Double(m) - Double(picked[lane])) + logarithm
      result = loss(rows, position &+ lane, nearest, smooth)
    }
    rows.call.losses[position &+ lane] = result
    lane &+= 1
  }
  guard let y else { return }
  if rows.smooths { columnStatistics(x, y, classes, stride, count, into: &columns) }
  finishGroup(rows, position, y, stride, &columns, count)
}

@inline(never)
private func finishGroup(
  _ rows: Rows, _ position: Int, _ y: Output, _ stride: Int, _ columns: inout ColumnStatistics,
  _ count: Int
) {
  let labels = rows.call.labels + position
  var all = Lanes(repeating: 0)
  var each = Lanes(repeating: 0)
  var own = Lanes(repeating: 0)
  var lane = 0
  while lane < count {
    let factors = Factors(rows, position &+ lane)
    let factor = factors.all / columns.sums[lane]
    all[lane] = Scalar(factor)
    each[lane] = Scalar(factors.each)
    let label = Int(labels[lane])
    if label >= 0 {
      own[lane] = Scalar(Double(y[label &* stride &+ lane]) * factor - factors.own)
    }
    lane &+= 1
  }
  scaleColumns(y, rows.call.classes, stride, count, &all)
  lane = 0
  while lane < count {
    if labels[lane] >= 0 { y[Int(labels[lane]) &* stride &+ lane] = own[lane] }
    lane &+= 1
  }
  if rows.smooths { subtractWeights(rows, y, stride, count, &each) }
}

@inline(never)
private func subtractWeights(
  _ rows: Rows, _ y: Output, _ stride: Int, _ count: Int, _ each: inout Lanes
) {
  var c = 0
  while c < rows.call.classes {
    let v = load(y, c &* stride, count: count) - each * rows.weight(c)
    store(v, y, c &* stride, count: count)
    c &+= 1
  }
}

import LossdKernelTable

// Cross entropy with class indices, forward and gradient together. With p = softmax(x), w the weights,
// W their sum, e the smoothing, C classes and y the label, the loss of a position is
//   (1 - e) w_y (lse - x_y) + e / C * sum_c w_c (lse - x_c)
// and its gradient, times the position's scale s,
//   s ((1 - e) w_y + e W / C) p_c - s (1 - e) w_y [c = y] - s e w_c / C.

func crossEntropyRows(_ call: UnsafePointer<CrossEntropyRows>) {
  let rows = call.pointee
  var position = 0
  if rows.stride == 1 && rows.classes <= shortRow {
    var input = Tile()
    let t = input.pointer()
    while position &+ width <= rows.count {
      let start = position &* rows.step
      turnIn(rows.x + start, rows.classes, t)
      vector(rows, position, t, rows.gradient == nil ? nil : t, width)
      if let gradient = rows.gradient { turnOut(t, rows.classes, gradient + start) }
      position &+= width
    }
  } else if rows.step == 1 {
    while position &+ width <= rows.count {
      var gradient: UnsafeMutablePointer<Float>?
      if let base = rows.gradient { gradient = base + position }
      vector(rows, position, rows.x + position, gradient, rows.stride)
      position &+= width
    }
  }
  while position < rows.count {
    if rows.stride == 1 {
      row(rows, position)
    } else {
      strided(rows, position)
    }
    position &+= 1
  }
}

/// What a position's gradient is made of: `all` p - `own` [c = y] - `each` w_c.
private struct Factors {
  var all = 0.0
  var own = 0.0
  var each = 0.0

  @inline(__always)
  init(_ rows: CrossEntropyRows, _ position: Int) {
    guard let scales = rows.scales else { return }
    let scale = scales[position]
    own = scale * (1 - rows.smoothing) * Double(rows.rowWeights[position])
    all = own
    if rows.smoothing > 0 && rows.labels[position] >= 0 {
      each = scale * rows.smoothing / Double(rows.classes)
      all += each * rows.classWeightSum
    }
  }
}

/// The loss from the row's own terms; `smooth` is sum_c w_c (lse - x_c).
@inline(__always)
private func loss(
  _ rows: CrossEntropyRows, _ position: Int, _ lse: Double, _ picked: Float, _ smooth: Double
) -> Double {
  var result =
    (1 - rows.smoothing) * Double(rows.rowWeights[position]) * (lse - Double(picked))
  if rows.smoothing > 0 { result += rows.smoothing / Double(rows.classes) * smooth }
  return result
}

/// sum_c w_c (lse - x_c) of one position.
private func smoothTerm(
  _ rows: CrossEntropyRows, _ x: UnsafePointer<Float>, _ stride: Int, _ lse: Double
) -> Double {
  var total = 0.0
  var c = 0
  while c < rows.classes {
    let w = rows.classWeights == nil ? 1 : Double(rows.classWeights.unsafelyUnwrapped[c])
    total += w * (lse - Double(x[c &* stride]))
    c &+= 1
  }
  return total
}

@inline(__always)
private func row(_ rows: CrossEntropyRows, _ position: Int) {
  let x = rows.x + position &* rows.step
  let label = rows.labels[position]
  let m = maximum(x, rows.classes)
  var y: UnsafeMutablePointer<Float>?
  if let gradient = rows.gradient { y = gradient + position &* rows.step }
  // The gradient may lie where the logits do: what is needed of them is read first.
  let picked = label >= 0 ? x[Int(label)] : 0
  if label < 0 && y == nil {
    rows.losses[position] = 0
    return
  }
  if rows.smoothing > 0 && label >= 0 {
    let sum = sumOfExponentials(x, rows.classes, m, nil)
    let lse = Double(m) + wideLog(sum)
    rows.losses[position] = loss(rows, position, lse, picked, smoothTerm(rows, x, 1, lse))
    guard let y else { return }
    _ = sumOfExponentials(x, rows.classes, m, y)
    finishRow(rows, position, y, sum, label)
    return
  }
  let sum = sumOfExponentials(x, rows.classes, m, y)
  rows.losses[position] =
    label >= 0 ? loss(rows, position, Double(m) + wideLog(sum), picked, 0) : 0
  if let y { finishRow(rows, position, y, sum, label) }
}

/// From the exponentials to the gradient.
@inline(__always)
private func finishRow(
  _ rows: CrossEntropyRows, _ position: Int, _ y: UnsafeMutablePointer<Float>, _ sum: Double,
  _ label: Int32
) {
  let factors = Factors(rows, position)
  let all = factors.all / sum
  let own = label >= 0 ? Double(y[Int(label)]) * all - factors.own : 0
  scale(y, rows.classes, Float(all))
  if label < 0 { return }
  y[Int(label)] = Float(own)
  if factors.each == 0 { return }
  var c = 0
  while c < rows.classes {
    let w = rows.classWeights == nil ? 1 : Double(rows.classWeights.unsafelyUnwrapped[c])
    y[c] -= Float(factors.each * w)
    c &+= 1
  }
}

/// A single column.
private func strided(_ rows: CrossEntropyRows, _ position: Int) {
  let x = rows.x + position &* rows.step
  let label = rows.labels[position]
  let (m, sum) = oneColumnSums(x, rows.classes, rows.stride)
  let lse = Double(m) + wideLog(sum)
  rows.losses[position] = 0
  if label >= 0 {
    let smooth = rows.smoothing > 0 ? smoothTerm(rows, x, rows.stride, lse) : 0
    rows.losses[position] = loss(rows, position, lse, x[Int(label) &* rows.stride], smooth)
  }
  guard let gradient = rows.gradient else { return }
  let y = gradient + position &* rows.step
  let factors = Factors(rows, position)
  var c = 0
  while c < rows.classes {
    let e = Double(expNonPositive(Lanes(repeating: x[c &* rows.stride] - m))[0])
    var g = e * (factors.all / sum)
    if c == Int(label) { g -= factors.own }
    if factors.each != 0 {
      let w = rows.classWeights == nil ? 1 : Double(rows.classWeights.unsafelyUnwrapped[c])
      g -= factors.each * w
    }
    y[c &* rows.stride] = Float(g)
    c &+= 1
  }
}

/// `width` positions in the lanes.
@inline(__always)
private func vector(
  _ rows: CrossEntropyRows, _ position: Int, _ x: UnsafePointer<Float>,
  _ y: UnsafeMutablePointer<Float>?, _ stride: Int
) {
  let labels = rows.labels + position
  // Read before the gradient is written, which may be in the same place.
  var picked = Lanes(repeating: 0)
  var lane = 0
  while lane < width {
    if labels[lane] >= 0 { picked[lane] = x[Int(labels[lane]) &* stride &+ lane] }
    lane &+= 1
  }
  let needsLogits = rows.smoothing > 0
  let (m, low, high) = columnSums(x, needsLogits ? nil : y, rows.classes, stride)
  let logarithm = logOfSum(narrowed(low, high))
  lane = 0
  while lane < width {
    if labels[lane] >= 0 {
      let lse = Double(m[lane]) + Double(logarithm[lane])
      let smooth = needsLogits ? smoothTerm(rows, x + lane, stride, lse) : 0
      // (m - picked) + log(sum) keeps what m + log(sum) would round away.
      let own = Double(m[lane] - picked[lane]) + Double(logarithm[lane]) + Double(picked[lane])
      rows.losses[position &+ lane] = loss(rows, position &+ lane, own, picked[lane], smooth)
    } else {
      rows.losses[position &+ lane] = 0
    }
    lane &+= 1
  }
  guard let y else { return }
  if needsLogits { _ = columnSums(x, y, rows.classes, stride) }
  finishVector(rows, position, y, stride, low, high)
}

@inline(__always)
private func finishVector(
  _ rows: CrossEntropyRows, _ position: Int, _ y: UnsafeMutablePointer<Float>, _ stride: Int,
  _ low: Wide, _ high: Wide
) {
  var all = Lanes(repeating: 0)
  var each = Lanes(repeating: 0)
  var own = Lanes(repeating: 0)
  var smoothed = false
  var lane = 0
  while lane < width {
    let factors = Factors(rows, position &+ lane)
    let half = width / 2
    let sum = lane < half ? low[lane] : high[lane &- half]
    let factor = factors.all / sum
    all[lane] = Float(factor)
    each[lane] = Float(factors.each)
    if factors.each != 0 { smoothed = true }
    let label = rows.labels[position &+ lane]
    if label >= 0 {
      own[lane] = Float(Double(y[Int(label) &* stride &+ lane]) * factor - factors.own)
    }
    lane &+= 1
  }
  var c = 0
  while c < rows.classes {
    store(load(y, c &* stride) * all, y, c &* stride)
    c &+= 1
  }
  lane = 0
  while lane < width {
    let label = rows.labels[position &+ lane]
    if label >= 0 { y[Int(label) &* stride &+ lane] = own[lane] }
    lane &+= 1
  }
  if !smoothed { return }
  c = 0
  while c < rows.classes {
    let w = rows.classWeights == nil ? 1 : rows.classWeights.unsafelyUnwrapped[c]
    store(load(y, c &* stride) - each * w, y, c &* stride)
    c &+= 1
  }
}

// The gradients of softmax, p (g - sum(g p)), and of log-softmax, g - p sum(g), where g is the upstream
// gradient: ones when it is nil.

func softmaxBackwardRows(_ x: Input, _ g: Input?, _ gradient: Output, _ rows: Int, _ columns: Int) {
  backwardRows(x, g, gradient, rows, columns, isLogarithmic: false)
}

func logSoftmaxBackwardRows(
  _ x: Input, _ g: Input?, _ gradient: Output, _ rows: Int, _ columns: Int
) {
  backwardRows(x, g, gradient, rows, columns, isLogarithmic: true)
}

func softmaxColumnsBackward(
  _ x: Input, _ g: Input?, _ y: Output, _ size: Int, _ stride: Int, _ columns: Int
) {
  eachGroup(columns) {
    backwardGroup(x + $0, offset(g, $0), y + $0, size, stride)
  } rest: {
    backwardGroup(x + $0, offset(g, $0), y + $0, size, stride, $1, isLogarithmic: false)
  }
}

func logSoftmaxColumnsBackward(
  _ x: Input, _ g: Input?, _ y: Output, _ size: Int, _ stride: Int, _ columns: Int
) {
  eachGroup(columns) {
    logBackwardGroup(x + $0, offset(g, $0), y + $0, size, stride)
  } rest: {
    backwardGroup(x + $0, offset(g, $0), y + $0, size, stride, $1, isLogarithmic: true)
  }
}

@inline(never)
private func backwardGroup(_ x: Input, _ g: Input?, _ y: Output, _ size: Int, _ stride: Int) {
  backwardGroup(x, g, y, size, stride, width, isLogarithmic: false)
}

@inline(never)
private func logBackwardGroup(_ x: Input, _ g: Input?, _ y: Output, _ size: Int, _ stride: Int) {
  backwardGroup(x, g, y, size, stride, width, isLogarithmic: true)
}

@inline(always)
private func backwardRows(
  _ x: Input, _ upstream: Input?, _ gradient: Output, _ rows: Int, _ columns: Int,
  isLogarithmic: Bool
) {
  var row = 0
  if columns <= shortRow {
    var input = Tile()
    var second = Tile()
    let t = input.pointer()
    let u = second.pointer()
    while row &+ width <= rows {
      let start = row &* columns
      turnIn(x + start, columns, t)
      if let upstream { turnIn(upstream + start, columns, u) }
      let above = upstream == nil ? nil : UnsafePointer(u)
      if isLogarithmic {
        logBackwardGroup(t, above, t, columns, width)
      } else {
        backwardGroup(t, above, t, columns, width)
      }
      turnOut(t, columns, gradient + start)
      row &+= width
    }
  }
  while row < rows {
    let start = row &* columns
    backwardRow(
      x + start, offset(upstream, start), gradient + start, columns, isLogarithmic: isLogarithmic)
    row &+= 1
  }
}

/// `gradient` holds the exponentials in between; it may be `x`.
@inline(always)
private func backwardRow(
  _ x: Input, _ upstream: Input?, _ gradient: Output, _ count: Int, isLogarithmic: Bool
) {
  let total = exponentials(x, count, maximum(x, count), gradient).value
  let factor = Scalar(1 / total)
  var dot: Double
  if let upstream {
    dot = sum(upstream, times: isLogarithmic ? nil : Input(gradient), count)
    if !isLogarithmic { dot /= total }
  } else {
    dot = isLogarithmic ? Double(count) : total / total  // 1, or NaN where the row has one
  }
  let d = Scalar(dot)
  var i = 0
  while i &+ width <= count {
    let p = load(gradient, i) * factor
    let g = upstream == nil ? Lanes(repeating: 1) : load(upstream.unsafelyUnwrapped, i)
    store(isLogarithmic ? g - p * d : p * (g - d), gradient, i)
    i &+= width
  }
  while i < count {
    let p = gradient[i] * factor
    let g = upstream == nil ? 1 : upstream.unsafelyUnwrapped[i]
    gradient[i] = isLogarithmic ? g - p * d : p * (g - d)
    i &+= 1
  }
}

@inline(always)
private func backwardGroup(
  _ x: Input, _ upstream: Input?, _ gradient: Output, _ size: Int, _ stride: Int, _ count: Int,
  isLogarithmic: Bool
) {
  let (_, sums) = columnSums(x, gradient, size, stride, count)
  let total = sums.narrowed
  let factor = 1 / total
  var dot = Lanes(repeating: Scalar(size))
  if let upstream {
    var dots = Sums()
    var c = 0
    while c < size {
      let g = load(upstream, c &* stride, count: count)
      dots.add(isLogarithmic ? g : g * load(gradient, c &* stride, count: count))
      c &+= 1
    }
    dot = isLogarithmic ? dots.narrowed : dots.narrowed * factor
  } else if !isLogarithmic {
    dot = total * factor  // about 1, or NaN where the column has one
  }
  var c = 0
  while c < size {
    let p = load(gradient, c &* stride, count: count) * factor
    var g = Lanes(repeating: 1)
    if let upstream { g = load(upstream, c &* stride, count: count) }
    store(isLogarithmic ? g - p * dot : p * (g - dot), gradient, c &* stride, count: count)
    c &+= 1
  }
}

// MARK: - From the result, where that has been computed anyway

func softmaxGradientRows(_ y: Input, _ g: Input?, _ gradient: Output, _ rows: Int, _ columns: Int) {
  var row = 0
  while row < rows {
    let start = row &* columns
    gradientRow(y + start, offset(g, start), gradient + start, columns)
    row &+= 1
  }
}

func logSoftmaxGradientRows(
  _ y: Input, _ g: Input?, _ gradient: Output, _ rows: Int, _ columns: Int
) {
  var row = 0
  while row < rows {
    let start = row &* columns
    logGradientRow(y + start, offset(g, start), gradient + start, columns)
    row &+= 1
  }
}

/// p (g - sum(g p)).
@inline(never)
private func gradientRow(_ y: Input, _ upstream: Input?, _ gradient: Output, _ count: Int) {
  guard let upstream else {
    let d = Scalar(sum(y, times: nil, count))
    var i = 0
    while i < count {
      gradient[i] = y[i] * (1 - d)
      i &+= 1
    }
    return
  }
  let d = Scalar(sum(upstream, times: y, count))
  var i = 0
  while i &+ width <= count {
    store(load(y, i) * (load(upstream, i) - d), gradient, i)
    i &+= width
  }
  while i < count {
    gradient[i] = y[i] * (upstream[i] - d)
    i &+= 1
  }
}

/// g - p sum(g) with p = exp(y).
@inline(never)
private func logGradientRow(_ y: Input, _ upstream: Input?, _ gradient: Output, _ count: Int) {
  var dot = Scalar(count)
  if let upstream { dot = Scalar(sum(upstream, times: nil, count)) }
  var i = 0
  while i < count {
    let part = count &- i < width ? count &- i : width
    var g = Lanes(repeating: 1)
    if let upstream { g = load(upstream, i, count: part) }
    store(g - expNonPositive(load(y, i, count: part)) * dot, gradient, i, count: part)
    i &+= width
  }
}

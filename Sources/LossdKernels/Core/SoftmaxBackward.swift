// The gradients of softmax, p (g - sum(g p)), and of log-softmax, g - p sum(g), where g is the upstream
// gradient: ones when it is nil.

func softmaxBackwardRows(
  _ x: UnsafePointer<Float>, _ upstream: UnsafePointer<Float>?,
  _ gradient: UnsafeMutablePointer<Float>, _ rows: Int, _ columns: Int
) {
  backwardRows(x, upstream, gradient, rows, columns, isLogarithmic: false)
}

func logSoftmaxBackwardRows(
  _ x: UnsafePointer<Float>, _ upstream: UnsafePointer<Float>?,
  _ gradient: UnsafeMutablePointer<Float>, _ rows: Int, _ columns: Int
) {
  backwardRows(x, upstream, gradient, rows, columns, isLogarithmic: true)
}

func softmaxColumnsBackward(
  _ x: UnsafePointer<Float>, _ upstream: UnsafePointer<Float>?,
  _ gradient: UnsafeMutablePointer<Float>, _ size: Int, _ stride: Int, _ columns: Int
) {
  eachVector(columns) {
    backwardVector(x + $0, offset(upstream, $0), gradient + $0, size, stride, isLogarithmic: false)
  } rest: {
    backwardOne(x + $0, offset(upstream, $0), gradient + $0, size, stride, isLogarithmic: false)
  }
}

func logSoftmaxColumnsBackward(
  _ x: UnsafePointer<Float>, _ upstream: UnsafePointer<Float>?,
  _ gradient: UnsafeMutablePointer<Float>, _ size: Int, _ stride: Int, _ columns: Int
) {
  eachVector(columns) {
    backwardVector(x + $0, offset(upstream, $0), gradient + $0, size, stride, isLogarithmic: true)
  } rest: {
    backwardOne(x + $0, offset(upstream, $0), gradient + $0, size, stride, isLogarithmic: true)
  }
}

@inline(__always)
private func offset(_ base: UnsafePointer<Float>?, _ index: Int) -> UnsafePointer<Float>? {
  if let base { return base + index }
  return nil
}

@inline(__always)
private func backwardRows(
  _ x: UnsafePointer<Float>, _ upstream: UnsafePointer<Float>?,
  _ gradient: UnsafeMutablePointer<Float>, _ rows: Int, _ columns: Int, isLogarithmic: Bool
) {
  var row = 0
  if columns <= shortRow {
    var input = Tile()
    var above = Tile()
    let t = input.pointer()
    let u = above.pointer()
    while row &+ width <= rows {
      let start = row &* columns
      turnIn(x + start, columns, t)
      if let upstream { turnIn(upstream + start, columns, u) }
      backwardVector(
        t, upstream == nil ? nil : UnsafePointer(u), t, columns, width, isLogarithmic: isLogarithmic
      )
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
@inline(__always)
private func backwardRow(
  _ x: UnsafePointer<Float>, _ upstream: UnsafePointer<Float>?,
  _ gradient: UnsafeMutablePointer<Float>, _ count: Int, isLogarithmic: Bool
) {
  let sum = sumOfExponentials(x, count, maximum(x, count), gradient)
  let factor = Float(1 / sum)
  var dot = 0.0
  if let upstream {
    var total = Wide(repeating: 0)
    var i = 0
    while i &+ width <= count {
      let g = load(upstream, i)
      add(isLogarithmic ? g : g * load(gradient, i), to: &total)
      i &+= width
    }
    dot = horizontalSum(total)
    while i < count {
      dot += Double(upstream[i]) * (isLogarithmic ? 1 : Double(gradient[i]))
      i &+= 1
    }
    if !isLogarithmic { dot /= sum }
  } else {
    dot = isLogarithmic ? Double(count) : sum / sum
  }
  let d = Float(dot)
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

@inline(__always)
private func backwardVector(
  _ x: UnsafePointer<Float>, _ upstream: UnsafePointer<Float>?,
  _ gradient: UnsafeMutablePointer<Float>, _ size: Int, _ stride: Int, isLogarithmic: Bool
) {
  let (_, low, high) = columnSums(x, gradient, size, stride)
  let factor = narrowed(1 / low, 1 / high)
  var dot = Lanes(repeating: isLogarithmic ? Float(size) : 1)
  if let upstream {
    var dotLow = Wide(repeating: 0)
    var dotHigh = Wide(repeating: 0)
    var c = 0
    while c < size {
      let g = load(upstream, c &* stride)
      let v = isLogarithmic ? g : g * load(gradient, c &* stride)
      add(v, to: &dotLow, &dotHigh)
      c &+= 1
    }
    dot = isLogarithmic ? narrowed(dotLow, dotHigh) : narrowed(dotLow / low, dotHigh / high)
  } else if !isLogarithmic {
    dot = narrowed(low / low, high / high)  // 1, or NaN where the column has one
  }
  var c = 0
  while c < size {
    let p = load(gradient, c &* stride) * factor
    let g = upstream == nil ? Lanes(repeating: 1) : load(upstream.unsafelyUnwrapped, c &* stride)
    store(isLogarithmic ? g - p * dot : p * (g - dot), gradient, c &* stride)
    c &+= 1
  }
}

private func backwardOne(
  _ x: UnsafePointer<Float>, _ upstream: UnsafePointer<Float>?,
  _ gradient: UnsafeMutablePointer<Float>, _ size: Int, _ stride: Int, isLogarithmic: Bool
) {
  let (m, sum) = oneColumnSums(x, size, stride)
  var dot = 0.0
  var c = 0
  while c < size {
    let e = Double(expNonPositive(Lanes(repeating: x[c &* stride] - m))[0])
    let g = upstream == nil ? 1 : Double(upstream.unsafelyUnwrapped[c &* stride])
    dot += isLogarithmic ? g : g * e / sum
    c &+= 1
  }
  c = 0
  while c < size {
    let p = Double(expNonPositive(Lanes(repeating: x[c &* stride] - m))[0]) / sum
    let g = upstream == nil ? 1 : Double(upstream.unsafelyUnwrapped[c &* stride])
    gradient[c &* stride] = Float(isLogarithmic ? g - p * dot : p * (g - dot))
    c &+= 1
  }
}

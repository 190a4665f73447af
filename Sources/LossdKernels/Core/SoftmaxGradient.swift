// The gradients of softmax and log-softmax from their results, where those have been computed anyway.

func softmaxGradientRows(
  _ y: UnsafePointer<Float>, _ upstream: UnsafePointer<Float>?,
  _ gradient: UnsafeMutablePointer<Float>, _ rows: Int, _ columns: Int
) {
  gradientRows(y, upstream, gradient, rows, columns, isLogarithmic: false)
}

func logSoftmaxGradientRows(
  _ y: UnsafePointer<Float>, _ upstream: UnsafePointer<Float>?,
  _ gradient: UnsafeMutablePointer<Float>, _ rows: Int, _ columns: Int
) {
  gradientRows(y, upstream, gradient, rows, columns, isLogarithmic: true)
}

@inline(__always)
private func gradientRows(
  _ y: UnsafePointer<Float>, _ upstream: UnsafePointer<Float>?,
  _ gradient: UnsafeMutablePointer<Float>, _ rows: Int, _ columns: Int, isLogarithmic: Bool
) {
  var row = 0
  while row < rows {
    let start = row &* columns
    var g: UnsafePointer<Float>?
    if let upstream { g = upstream + start }
    gradientRow(y + start, g, gradient + start, columns, isLogarithmic: isLogarithmic)
    row &+= 1
  }
}

/// p (g - sum(g p)), or g - p sum(g) with p = exp(y).
@inline(__always)
private func gradientRow(
  _ y: UnsafePointer<Float>, _ upstream: UnsafePointer<Float>?,
  _ gradient: UnsafeMutablePointer<Float>, _ count: Int, isLogarithmic: Bool
) {
  let one = Lanes(repeating: 1)
  var total = Wide(repeating: 0)
  var i = 0
  if !isLogarithmic || upstream != nil {
    while i &+ width <= count {
      let g = upstream == nil ? one : load(upstream.unsafelyUnwrapped, i)
      add(isLogarithmic ? g : g * load(y, i), to: &total)
      i &+= width
    }
  }
  var dot = horizontalSum(total)
  while i < count {
    let g = upstream == nil ? 1 : upstream.unsafelyUnwrapped[i]
    dot += Double(g) * (isLogarithmic ? 1 : Double(y[i]))
    i &+= 1
    if isLogarithmic && upstream == nil {
      dot = Double(count)
      i = count
    }
  }
  let d = Float(dot)
  i = 0
  while i &+ width <= count {
    let g = upstream == nil ? one : load(upstream.unsafelyUnwrapped, i)
    let v = load(y, i)
    store(isLogarithmic ? g - expNonPositive(v) * d : v * (g - d), gradient, i)
    i &+= width
  }
  if i < count {
    let part = count &- i
    let g = upstream == nil ? one : loadSome(upstream.unsafelyUnwrapped + i, part)
    let v = loadSome(y + i, part)
    storeSome(isLogarithmic ? g - expNonPositive(v) * d : v * (g - d), gradient + i, part)
  }
}

// Softmax and its relatives on one long contiguous row. Three sweeps: the maximum; exp and its sum; the
// result. A row stays in the cache between them, and exp is what costs.

/// The largest element that is not NaN, or perhaps NaN where there is one: a NaN also reaches the sum of
/// exponentials, and with it every result of the row. -infinity of an empty row.
@inline(__always)
func maximum(_ x: UnsafePointer<Float>, _ count: Int) -> Float {
  var i = 0
  var result = -Float.infinity
  if count >= 4 &* width {
    var a = load(x, 0)
    var b = load(x, width)
    var c = load(x, 2 &* width)
    var d = load(x, 3 &* width)
    i = 4 &* width
    while i &+ 4 &* width <= count {
      a = larger(a, load(x, i))
      b = larger(b, load(x, i &+ width))
      c = larger(c, load(x, i &+ 2 &* width))
      d = larger(d, load(x, i &+ 3 &* width))
      i &+= 4 &* width
    }
    result = largest(larger(larger(a, b), larger(c, d)))
  }
  while i < count {
    if x[i] > result { result = x[i] }
    i &+= 1
  }
  return result
}

/// sum(exp(x - maximum)) in float64; the exponentials go to `y` unless that is nil.
@inline(__always)
func sumOfExponentials(
  _ x: UnsafePointer<Float>, _ count: Int, _ maximum: Float, _ y: UnsafeMutablePointer<Float>?
) -> Double {
  let m = Lanes(repeating: maximum)
  var total = Wide(repeating: 0)
  var i = 0
  // Four vectors are added in float32, by two roundings, and their sum in float64.
  while i &+ 4 &* width <= count {
    let a = expNonPositive(load(x, i) - m)
    let b = expNonPositive(load(x, i &+ width) - m)
    let c = expNonPositive(load(x, i &+ 2 &* width) - m)
    let d = expNonPositive(load(x, i &+ 3 &* width) - m)
    if let y {
      store(a, y, i)
      store(b, y, i &+ width)
      store(c, y, i &+ 2 &* width)
      store(d, y, i &+ 3 &* width)
    }
    add((a + b) + (c + d), to: &total)
    i &+= 4 &* width
  }
  while i &+ width <= count {
    let a = expNonPositive(load(x, i) - m)
    if let y { store(a, y, i) }
    add(a, to: &total)
    i &+= width
  }
  var result = horizontalSum(total)
  if i < count {
    // The rest in lanes of a vector whose others are -infinity, and so count nothing.
    var last = Lanes(repeating: -.infinity)
    var lane = 0
    while i &+ lane < count {
      last[lane] = x[i &+ lane] - maximum
      lane &+= 1
    }
    let e = expNonPositive(last)
    lane = 0
    while i &+ lane < count {
      result += Double(e[lane])
      if let y { y[i &+ lane] = e[lane] }
      lane &+= 1
    }
  }
  return result
}

/// y = y * factor.
@inline(__always)
func scale(_ y: UnsafeMutablePointer<Float>, _ count: Int, _ factor: Float) {
  var i = 0
  while i &+ 2 &* width <= count {
    store(load(y, i) * factor, y, i)
    store(load(y, i &+ width) * factor, y, i &+ width)
    i &+= 2 &* width
  }
  while i < count {
    y[i] *= factor
    i &+= 1
  }
}

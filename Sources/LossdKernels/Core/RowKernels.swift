// Softmax and its relatives on one long contiguous row. Three sweeps: the maximum; exp and its sum; the
// result. A row stays in the cache between them, and exp is what costs.

/// The largest element that is not NaN, or perhaps NaN where there is one: a NaN also reaches the sum of
/// exponentials, and with it every result of the row. -infinity of an empty row.
@inline(__always)
func maximum(_ x: UnsafePointer<Float>, _ count: Int) -> Float {
  var i = 0
  var result = -Float.infinity
  if count >= 32 {
    var a = load(x, 0)
    var b = load(x, 8)
    var c = load(x, 16)
    var d = load(x, 24)
    i = 32
    while i &+ 32 <= count {
      a = larger(a, load(x, i))
      b = larger(b, load(x, i &+ 8))
      c = larger(c, load(x, i &+ 16))
      d = larger(d, load(x, i &+ 24))
      i &+= 32
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
  while i &+ 32 <= count {
    let a = expNonPositive(load(x, i) - m)
    let b = expNonPositive(load(x, i &+ 8) - m)
    let c = expNonPositive(load(x, i &+ 16) - m)
    let d = expNonPositive(load(x, i &+ 24) - m)
    if let y {
      store(a, y, i)
      store(b, y, i &+ 8)
      store(c, y, i &+ 16)
      store(d, y, i &+ 24)
    }
    add((a + b) + (c + d), to: &total)
    i &+= 32
  }
  while i &+ 8 <= count {
    let a = expNonPositive(load(x, i) - m)
    if let y { store(a, y, i) }
    add(a, to: &total)
    i &+= 8
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
  while i &+ 16 <= count {
    store(load(y, i) * factor, y, i)
    store(load(y, i &+ 8) * factor, y, i &+ 8)
    i &+= 16
  }
  while i < count {
    y[i] *= factor
    i &+= 1
  }
}

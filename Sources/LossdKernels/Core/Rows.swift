// One long contiguous row. Three sweeps: the maximum; exp and its sum; the result. A row stays in the
// cache between them, and exp is what costs.

/// The largest element that is not NaN, or perhaps NaN where there is one: a NaN also reaches the sum of
/// exponentials, and with it every result of the row. -infinity of an empty row.
@inline(never)
func maximum(_ x: Input, _ count: Int) -> Scalar {
  if count < width {
    var result = -Scalar.infinity
    var i = 0
    while i < count {
      if x[i] > result { result = x[i] }
      i &+= 1
    }
    return result
  }
  // The last vector first: it may overlap others, and where lanes are NaN the others win.
  var a = larger(Lanes(repeating: -.infinity), load(x, count &- width))
  var b = a
  var c = a
  var d = a
  var i = 0
  while i &+ 4 &* width <= count {
    a = larger(a, load(x, i))
    b = larger(b, load(x, i &+ width))
    c = larger(c, load(x, i &+ 2 &* width))
    d = larger(d, load(x, i &+ 3 &* width))
    i &+= 4 &* width
  }
  while i &+ width <= count {
    a = larger(a, load(x, i))
    i &+= width
  }
  var all = larger(larger(a, b), larger(c, d))
  return largestLane(&all)
}

/// sum(exp(x - maximum)) in float64; the exponentials go to `y`.
@inline(never)
func exponentials(_ x: Input, _ count: Int, _ maximum: Scalar, _ y: Output) -> RowTotal {
  exponentials(x, count, maximum, storedIn: y)
}

/// sum(exp(x - maximum)) in float64.
@inline(never)
func sumOfExponentials(_ x: Input, _ count: Int, _ maximum: Scalar) -> RowTotal {
  exponentials(x, count, maximum, storedIn: nil)
}

@inline(always)
private func exponentials(
  _ x: Input, _ count: Int, _ maximum: Scalar, storedIn y: Output?
) -> RowTotal {
  let m = Lanes(repeating: maximum)
  var sums = Sums()
  var i = 0
  while i &+ width <= count {
    let a = expNonPositive(load(x, i) - m)
    if let y { store(a, y, i) }
    sums.add(a)
    i &+= width
  }
  var result = sumOfLanes(&sums)
  if i < count {
    let rest = count &- i
    let e = expNonPositive(load(x, i, count: rest) - m)
    if let y { store(e, y, i, count: rest) }
    var lane = 0
    while lane < rest {
      result.add(Double(e[lane]))
      lane &+= 1
    }
  }
  return result
}

/// y = y * factor.
@inline(never)
func scale(_ y: Output, _ count: Int, _ factor: Scalar) {
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

/// The sum of some elements times others, of the elements alone when `factors` is nil.
@inline(never)
func sum(_ x: Input, times factors: Input?, _ count: Int) -> Double {
  var sums = Sums()
  var i = 0
  while i &+ width <= count {
    let v = load(x, i)
    if let factors { sums.add(v * load(factors, i)) } else { sums.add(v) }
    i &+= width
  }
  var result = sumOfLanes(&sums)
  while i < count {
    if let factors {
      result.add(Double(x[i]) * Double(factors[i]))
    } else {
      result.add(Double(x[i]))
    }
    i &+= 1
  }
  return result.value
}

/// sum(exp(x - maximum)) in float64; the maximum to `m`.
func rowSum(_ x: Input, _ count: Int, _ m: UnsafeMutablePointer<Double>) -> Double {
  let largest = maximum(x, count)
  m.pointee = Double(largest)
  return sumOfExponentials(x, count, largest).value
}

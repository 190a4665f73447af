// The elementary functions by themselves.
internal import CLossdLanes

@inline(__always)
private func eachElement(_ x: Input, _ y: Output, _ count: Int, _ function: (Lanes) -> Lanes) {
  eachVector(count) {
    store(function(load(x, $0)), y, $0)
  } rest: { first, rest in
    lanes_store_first(y + first, function(lanes_load_part(x + first, rest)), rest)
  }
}

func expElements(_ x: Input, _ y: Output, _ count: Int) { eachElement(x, y, count) { exp($0) } }

/// factor exp(x).
func weightedExpElements(_ x: Input, _ y: Output, _ count: Int, _ factor: Double) {
  // A NaN's last bits are zeros, as `store` wants them.
  let factor: Scalar = factor.isNaN ? .nan : Scalar(factor)
  eachElement(x, y, count) { exp($0) * factor }
}

func logElements(_ x: Input, _ y: Output, _ count: Int) { eachElement(x, y, count) { log($0) } }

func log1pElements(_ x: Input, _ y: Output, _ count: Int) {
  eachElement(x, y, count) { log1pOfAny($0) }
}

// MARK: - Parts of long rows, of the lanes' type

/// sum(exp(x - maximum)) in float64 of one row of any length; the maximum to `m`.
func rowSum(
  _ x: UnsafePointer<Scalar>, _ count: Int, _ m: UnsafeMutablePointer<Double>
) -> Double {
  var largest = all(-.infinity)
  var sums = ExponentialSums()
  let whole = count / width &* width
  // Padded with what adds nothing.
  let rest = fetchSome(x + whole, count &- whole, -.infinity)
  var i = 0
  while i < whole {
    largest = larger(largest, fetch(x, i))
    i &+= width
  }
  let maximum = lanes_largest(larger(largest, rest))
  m.pointee = Double(maximum)
  i = 0
  while i < whole {
    sums.add(liftedExp(fetch(x, i) - maximum))
    i &+= width
  }
  if whole < count { sums.add(liftedExp(rest - maximum)) }
  return sums.total.value
}

/// `count` numbers, fewer than there are lanes, and `missing` in the other lanes.
@inline(__always)
private func fetchSome(_ x: UnsafePointer<Scalar>, _ count: Int, _ missing: Scalar) -> Lanes {
  var result = all(missing)
  var lane = 0
  while lane < count {
    result[lane] = x[lane]
    lane &+= 1
  }
  return result
}

/// y = factor exp(x - maximum), for x <= maximum.
func scaledExponentials(
  _ x: UnsafePointer<Scalar>, _ y: Scratch, _ count: Int, _ maximum: Double, _ factor: Double
) {
  let m = all(Scalar(maximum))
  let f = Scalar(factor * Double(Format.unlift))
  eachVector(count) { i in
    put(liftedExp(fetch(x, i) - m) * f, y, i)
  } rest: { first, rest in
    let last = liftedExp(fetchSome(x + first, rest, 0) - m) * f
    var lane = 0
    while lane < rest {
      y[first &+ lane] = last[lane]
      lane &+= 1
    }
  }
}

/// Calls `body` with the first element of each whole vector, and `rest` with what is left.
@inline(__always)
func eachVector(_ count: Int, _ body: (Int) -> Void, rest: (Int, Int) -> Void) {
  var i = 0
  while i &+ width <= count {
    body(i)
    i &+= width
  }
  if i < count { rest(i, count &- i) }
}

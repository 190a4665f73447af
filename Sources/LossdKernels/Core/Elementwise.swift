import LossdKernelTable

// sigmoid and binary cross entropy with logits.

/// 1 / (1 + exp(-x)), by exp(-|x|), which does not overflow.
@inline(__always)
private func sigmoid(_ x: Lanes) -> Lanes {
  let e = expNonPositive(-magnitude(x))
  let one = 1 / (1 + e)
  return one.replacing(with: e * one, where: x .< 0)
}

@inline(__always)
private func sigmoidSlope(_ x: Lanes) -> Lanes {
  let e = expNonPositive(-magnitude(x))
  let d = 1 + e
  return e / (d * d)
}

/// The last `count` elements, fewer than `width`, in the first lanes; zeros behind them.
@inline(__always)
func loadSome(_ base: UnsafePointer<Float>, _ count: Int) -> Lanes {
  var result = Lanes(repeating: 0)
  var lane = 0
  while lane < count {
    result[lane] = base[lane]
    lane &+= 1
  }
  return result
}

@inline(__always)
func storeSome(_ value: Lanes, _ base: UnsafeMutablePointer<Float>, _ count: Int) {
  var lane = 0
  while lane < count {
    base[lane] = value[lane]
    lane &+= 1
  }
}

func sigmoidElements(_ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ count: Int) {
  var i = 0
  while i &+ 2 &* width <= count {
    let (a, b) = (sigmoid(load(x, i)), sigmoid(load(x, i &+ width)))
    store(a, y, i)
    store(b, y, i &+ width)
    i &+= 2 &* width
  }
  while i < count {
    let part = count &- i < width ? count &- i : width
    storeSome(sigmoid(loadSome(x + i, part)), y + i, part)
    i &+= part
  }
}

func sigmoidBackwardElements(
  _ x: UnsafePointer<Float>, _ upstream: UnsafePointer<Float>?,
  _ gradient: UnsafeMutablePointer<Float>, _ count: Int
) {
  var i = 0
  while i &+ width <= count {
    var slope = sigmoidSlope(load(x, i))
    if let upstream { slope *= load(upstream, i) }
    store(slope, gradient, i)
    i &+= width
  }
  if i < count {
    let part = count &- i
    var slope = sigmoidSlope(loadSome(x + i, part))
    if let upstream { slope *= loadSome(upstream + i, part) }
    storeSome(slope, gradient + i, part)
  }
}

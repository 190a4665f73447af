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
  let one = 1 / (1 + e)
  return e * one * one
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

/// loss = (1 - y) x + f softplus(-x) with f = 1 + (p - 1) y, torch's formula, which fixes what infinities
/// give; for x < 0, where its terms cancel, as p y (-x) + f log(1 + exp(x)).
/// gradient = (1 - y) sigmoid(x) - p y sigmoid(-x).
@inline(__always)
private func binary(
  _ x: Lanes, _ y: Lanes, _ p: Lanes, _ hasPosWeight: Bool
) -> (loss: Lanes, gradient: Lanes) {
  let e = expNonPositive(-magnitude(x))
  let isNegative = x .< 0
  let large = 1 / (1 + e)  // sigmoid(|x|)
  let small = e * large
  let s = large.replacing(with: small, where: isNegative)
  let t = small.replacing(with: large, where: isNegative)
  let positive = hasPosWeight ? p * y : y
  let factor = hasPosWeight ? 1 + (p - 1) * y : Lanes(repeating: 1)
  let linear = ((1 - y) * x).replacing(with: -(positive * x), where: isNegative)
  // At -infinity torch's formula has the difference of two infinities.
  let undefined = Lanes(repeating: 0).replacing(
    with: .nan, where: x .== Lanes(repeating: -.infinity))
  return (fma(factor, log1p(e), linear) + undefined, (1 - y) * s - positive * t)
}

func binaryLogits(_ call: UnsafePointer<BinaryElements>) -> Double {
  let b = call.pointee
  var total = Wide(repeating: 0)
  var i = 0
  let one = Lanes(repeating: 1)
  while i &+ width <= b.count {
    let p = b.posWeight == nil ? one : load(b.posWeight.unsafelyUnwrapped, i)
    var (loss, gradient) = binary(load(b.x, i), load(b.target, i), p, b.posWeight != nil)
    if let weight = b.weight {
      let w = load(weight, i)
      loss *= w
      gradient *= w
    }
    if let y = b.gradient {
      var scale = Lanes(repeating: b.scale)
      if let upstream = b.upstream { scale *= load(upstream, i) }
      store(gradient * scale, y, i)
    }
    if let losses = b.losses { store(loss, losses, i) }
    add(loss, to: &total)
    i &+= width
  }
  var result = horizontalSum(total)
  if i < b.count {
    let part = b.count &- i
    let p = b.posWeight == nil ? one : loadSome(b.posWeight.unsafelyUnwrapped + i, part)
    var (loss, gradient) = binary(
      loadSome(b.x + i, part), loadSome(b.target + i, part), p, b.posWeight != nil)
    if let weight = b.weight {
      let w = loadSome(weight + i, part)
      loss *= w
      gradient *= w
    }
    if let y = b.gradient {
      var scale = Lanes(repeating: b.scale)
      if let upstream = b.upstream { scale *= loadSome(upstream + i, part) }
      storeSome(gradient * scale, y + i, part)
    }
    if let losses = b.losses { storeSome(loss, losses + i, part) }
    var lane = 0
    while lane < part {
      result += Double(loss[lane])
      lane &+= 1
    }
  }
  return result
}

// sigmoid, and the elementary functions by themselves.

/// 1 / (1 + exp(-x)), by exp(-|x|), which does not overflow.
@inline(always)
private func sigmoid(_ x: Lanes) -> Lanes {
  let e = expNonPositive(negativeMagnitude(x))
  let one = 1 / (1 + e)
  return one.replacing(with: e * one, where: x .< 0)
}

@inline(always)
private func sigmoidSlope(_ x: Lanes) -> Lanes {
  let e = expNonPositive(negativeMagnitude(x))
  let d = 1 + e
  return e / (d * d)
}

func sigmoidElements(_ x: Input, _ y: Output, _ count: Int) {
  var i = 0
  while i &+ width <= count {
    store(sigmoid(load(x, i)), y, i)
    i &+= width
  }
  if i < count {
    let part = count &- i
    store(sigmoid(load(x, i, count: part)), y, i, count: part)
  }
}

func expElements(_ x: Input, _ y: Output, _ count: Int) {
  var i = 0
  while i &+ width <= count {
    store(exp(load(x, i)), y, i)
    i &+= width
  }
  if i < count {
    let part = count &- i
    store(exp(load(x, i, count: part)), y, i, count: part)
  }
}

func logElements(_ x: Input, _ y: Output, _ count: Int) {
  var i = 0
  while i &+ width <= count {
    store(log(load(x, i)), y, i)
    i &+= width
  }
  if i < count {
    let part = count &- i
    store(log(load(x, i, count: part)), y, i, count: part)
  }
}

func log1pElements(_ x: Input, _ y: Output, _ count: Int) {
  var i = 0
  while i &+ width <= count {
    store(log1pOfAny(load(x, i)), y, i)
    i &+= width
  }
  if i < count {
    let part = count &- i
    store(log1pOfAny(load(x, i, count: part)), y, i, count: part)
  }
}

/// log(1 - x).
func log1pNegatedElements(_ x: Input, _ y: Output, _ count: Int) {
  var i = 0
  while i &+ width <= count {
    store(log1pOfAny(0 - load(x, i)), y, i)
    i &+= width
  }
  if i < count {
    let part = count &- i
    store(log1pOfAny(0 - load(x, i, count: part)), y, i, count: part)
  }
}

func sigmoidBackwardElements(_ x: Input, _ upstream: Input?, _ gradient: Output, _ count: Int) {
  var i = 0
  while i &+ width <= count {
    var slope = sigmoidSlope(load(x, i))
    if let upstream { slope *= load(upstream, i) }
    store(slope, gradient, i)
    i &+= width
  }
  if i < count {
    let part = count &- i
    var slope = sigmoidSlope(load(x, i, count: part))
    if let upstream { slope *= load(upstream, i, count: part) }
    store(slope, gradient, i, count: part)
  }
}

import LossdKernelTable

// The binary losses, elementwise, with their gradients.

/// The call with its pointers bound to this build's type.
private struct Elements {
  var x: Input
  var target: Input
  var weight: Input?
  var posWeight: Input?
  var losses: Output?
  var gradient: Output?
  var upstream: Input?
  let scale: Scalar
  var count: Int

  @inline(always)
  init(_ call: BinaryElements) {
    x = call.x.assumingMemoryBound(to: Scalar.self)
    target = call.target.assumingMemoryBound(to: Scalar.self)
    weight = call.weight?.assumingMemoryBound(to: Scalar.self)
    posWeight = call.posWeight?.assumingMemoryBound(to: Scalar.self)
    losses = call.losses?.assumingMemoryBound(to: Scalar.self)
    gradient = call.gradient?.assumingMemoryBound(to: Scalar.self)
    upstream = call.upstream?.assumingMemoryBound(to: Scalar.self)
    scale = Scalar(call.scale)
    count = call.count
  }

  /// Weighs, stores and sums a vector of results.
  @inline(always)
  func finish(
    _ i: Int, _ loss: Lanes, _ slope: Lanes, _ wantsGradient: Bool, _ sums: inout Sums
  ) {
    var (loss, slope) = (loss, slope)
    if let weight {
      let w = load(weight, i)
      loss *= w
      slope *= w
    }
    if wantsGradient, let gradient {
      var factor = Lanes(repeating: scale)
      if let upstream { factor *= load(upstream, i) }
      store(slope * factor, gradient, i)
    }
    if let losses { store(loss, losses, i) }
    sums.add(loss)
  }
}

/// The whole vectors, then the rest in a tile: a vector whose further elements have weight 0.
@inline(always)
private func eachVector(_ b: Elements, _ loop: (Elements) -> Double) -> Double {
  var b = b
  let rest = b.count % width
  let all = b
  b.count &-= rest
  var result = 0.0
  if b.count > 0 { result = loop(b) }
  if rest == 0 { return result }
  var tile = Tile()
  let t = tile.pointer()
  let last = paddedCopy(all, t, rest)
  result += loop(last)
  if let losses = all.losses { copy(t + 5 &* width, losses + b.count, rest) }
  if let gradient = all.gradient { copy(t + 6 &* width, gradient + b.count, rest) }
  return result
}

@inline(never)
private func paddedCopy(_ b: Elements, _ t: Output, _ rest: Int) -> Elements {
  let start = b.count &- rest
  var last = b
  last.count = width
  last.x = Input(t)
  copy(b.x + start, t, rest)
  last.target = Input(t + width)
  copy(b.target + start, t + width, rest)
  last.weight = Input(t + 2 &* width)
  var i = 0
  while i < rest {
    t[2 &* width &+ i] = b.weight == nil ? 1 : b.weight.unsafelyUnwrapped[start &+ i]
    i &+= 1
  }
  if let posWeight = b.posWeight {
    last.posWeight = Input(t + 3 &* width)
    copy(posWeight + start, t + 3 &* width, rest)
  }
  if let upstream = b.upstream {
    last.upstream = Input(t + 4 &* width)
    copy(upstream + start, t + 4 &* width, rest)
  }
  if b.losses != nil { last.losses = t + 5 &* width }
  if b.gradient != nil { last.gradient = t + 6 &* width }
  return last
}

@inline(never)
private func copy(_ x: Input, _ y: Output, _ count: Int) {
  var i = 0
  while i < count {
    y[i] = x[i]
    i &+= 1
  }
}

/// loss = (1 - y) x + f softplus(-x) with f = 1 + (p - 1) y, torch's formula, which fixes what infinities
/// give, f as (1 - y) + p y, which cancels nothing; for x < 0, where its terms cancel, as p y (-x) + f log(1 + exp(x)).
/// gradient = (1 - y) sigmoid(x) - p y sigmoid(-x).
@inline(always)
private func logits(
  _ x: Lanes, _ y: Lanes, _ p: Lanes, hasPosWeight: Bool, wantsGradient: Bool,
  isMultilabel: Bool
) -> (loss: Lanes, slope: Lanes) {
  let e = expNonPositive(negativeMagnitude(x))
  let isNegative = x .< 0
  let positive = hasPosWeight ? p * y : y
  let linear = ((1 - y) * x).replacing(with: -(positive * x), where: isNegative)
  let tail = log1p(e)
  var loss = hasPosWeight ? fma((1 - y) + positive, tail, linear) : linear + tail
  if !isMultilabel {
    // At -infinity torch's formula has the difference of two infinities.
    loss = loss.replacing(with: .nan, where: x .== Lanes(repeating: -.infinity))
  }
  guard wantsGradient else { return (loss, loss) }
  let large = 1 / (1 + e)  // sigmoid(|x|)
  let small = e * large
  let s = large.replacing(with: small, where: isNegative)
  let t = small.replacing(with: large, where: isNegative)
  return (loss, (1 - y) * s - positive * t)
}

@inline(always)
private func logitsLoop(
  _ b: Elements, hasPosWeight: Bool, wantsGradient: Bool, isMultilabel: Bool
) -> Double {
  var sums = Sums()
  var i = 0
  while i < b.count {
    let p = hasPosWeight ? load(b.posWeight.unsafelyUnwrapped, i) : Lanes(repeating: 1)
    let (loss, slope) = logits(
      load(b.x, i), load(b.target, i), p, hasPosWeight: hasPosWeight,
      wantsGradient: wantsGradient, isMultilabel: isMultilabel)
    b.finish(i, loss, slope, wantsGradient, &sums)
    i &+= width
  }
  return sumOfLanes(&sums).value
}

func binaryLogits(_ pointer: UnsafePointer<BinaryElements>) -> Double {
  let b = Elements(pointer.pointee)
  let isMultilabel = pointer.pointee.isMultilabel
  return eachVector(b) {
    if $0.posWeight != nil { return weightedLogits($0, isMultilabel) }
    return $0.gradient == nil
      ? lossOfLogits($0, isMultilabel) : gradientOfLogits($0, isMultilabel)
  }
}

@inline(never)
private func weightedLogits(_ b: Elements, _ isMultilabel: Bool) -> Double {
  logitsLoop(b, hasPosWeight: true, wantsGradient: true, isMultilabel: isMultilabel)
}

@inline(never)
private func lossOfLogits(_ b: Elements, _ isMultilabel: Bool) -> Double {
  logitsLoop(b, hasPosWeight: false, wantsGradient: false, isMultilabel: isMultilabel)
}

@inline(never)
private func gradientOfLogits(_ b: Elements, _ isMultilabel: Bool) -> Double {
  logitsLoop(b, hasPosWeight: false, wantsGradient: true, isMultilabel: isMultilabel)
}

func binaryProbabilities(_ pointer: UnsafePointer<BinaryElements>) -> Double {
  eachVector(Elements(pointer.pointee)) { all in
    // The logarithms of a block first: one loop with both in it grows too large for the optimiser.
    var logarithms = Tile()
    let t = logarithms.pointer()
    let block = shortRow / 2 &* width
    var result = 0.0
    var i = 0
    while i < all.count {
      let count = all.count &- i < block ? all.count &- i : block
      logElements(all.x + i, t, count)
      log1pNegatedElements(all.x + i, t + block, count)
      result += probabilitiesLoop(all, i, count, t, t + block)
      i &+= count
    }
    return result
  }
}

/// loss = -(y max(log x, -100) + (1 - y) max(log(1 - x), -100)), NaN where x or y is outside [0, 1];
/// gradient = (x - y) / max(x (1 - x), 1e-12).
@inline(never)
private func probabilitiesLoop(
  _ b: Elements, _ start: Int, _ count: Int, _ logs: Input, _ complements: Input
) -> Double {
  var sums = Sums()
  var i = 0
  while i < count {
    let x = load(b.x, start &+ i)
    let y = load(b.target, start &+ i)
    let p = larger(Lanes(repeating: -100), load(logs, i))
    let q = larger(Lanes(repeating: -100), load(complements, i))
    var loss = 0 - (y * p + (1 - y) * q)
    loss = loss.replacing(with: .nan, where: .!(x .>= 0) .| .!(x .<= 1))
    loss = loss.replacing(with: .nan, where: .!(y .>= 0) .| .!(y .<= 1))
    let slope = (x - y) / larger(Lanes(repeating: 1e-12), x * (1 - x))
    b.finish(start &+ i, loss, slope, b.gradient != nil, &sums)
    i &+= width
  }
  return sumOfLanes(&sums).value
}

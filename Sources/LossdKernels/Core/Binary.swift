// The binary losses, elementwise, with their gradients.
internal import CLossdLanes
import LossdKernelTable

/// The call with its pointers bound to this build's type; `count` is a multiple of the lanes.
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
  var isStreamed: Bool

  @inline(__always)
  init(_ call: BinaryElements) {
    x = call.x.assumingMemoryBound(to: Element.self)
    target = call.target.assumingMemoryBound(to: Element.self)
    weight = call.weight?.assumingMemoryBound(to: Element.self)
    posWeight = call.posWeight?.assumingMemoryBound(to: Element.self)
    losses = call.losses?.assumingMemoryBound(to: Element.self)
    gradient = call.gradient?.assumingMemoryBound(to: Element.self)
    upstream = call.upstream?.assumingMemoryBound(to: Element.self)
    scale = Scalar(call.scale)
    count = call.count
    // Past the cache only what is aligned, and what has not just been read.
    let isAligned =
      (losses == nil || misalignment(losses.unsafelyUnwrapped) == 0)
      && (gradient == nil || misalignment(gradient.unsafelyUnwrapped) == 0)
    let isInPlace = isAt(call.losses, call.x) || isAt(call.gradient, call.x)
    isStreamed = call.isStreamed && isAligned && !isInPlace
  }

  /// Weighs, stores and sums a vector of results.
  @inline(__always)
  func finish(
    _ i: Int, _ loss: Lanes, _ slope: Lanes, _ wantsGradient: Bool, _ sums: inout Sums
  ) {
    var (loss, slope) = (loss, slope)
    if let weight {
      let w = load(weight, i)
      loss = loss * w
      slope = slope * w
    }
    if wantsGradient, let gradient {
      var factor = all(scale)
      if let upstream { factor = factor * load(upstream, i) }
      if isStreamed {
        lanes_stream(gradient + i, slope * factor)
      } else {
        store(slope * factor, gradient, i)
      }
    }
    if let losses {
      if isStreamed { lanes_stream(losses + i, loss) } else { store(loss, losses, i) }
    }
    sums.add(loss)
  }
}

/// The whole vectors, then the rest in a tile: a vector whose further elements have weight 0.
@inline(__always)
private func eachVector(_ b: Elements, _ loop: (Elements) -> Double) -> Double {
  var b = b
  let rest = b.count % width
  let all = b
  b.count &-= rest
  var result = 0.0
  if b.count > 0 { result = loop(b) }
  if rest > 0 { result += lastVector(all, rest, loop) }
  return result
}

@inline(never)
private func lastVector(_ all: Elements, _ rest: Int, _ loop: (Elements) -> Double) -> Double {
  var tile = Tile()
  let t = UnsafeMutableRawPointer(tile.pointer()).assumingMemoryBound(to: Element.self)
  let start = all.count &- rest
  var last = all
  last.count = width
  last.isStreamed = false
  last.x = Input(t)
  copy(all.x + start, t, rest)
  last.target = Input(t + width)
  copy(all.target + start, t + width, rest)
  last.weight = Input(t + 2 &* width)
  var i = 0
  while i < rest {
    t[2 &* width &+ i] =
      all.weight == nil ? element_narrowed(1) : all.weight.unsafelyUnwrapped[start &+ i]
    i &+= 1
  }
  if let posWeight = all.posWeight {
    last.posWeight = Input(t + 3 &* width)
    copy(posWeight + start, t + 3 &* width, rest)
  }
  if let upstream = all.upstream {
    last.upstream = Input(t + 4 &* width)
    copy(upstream + start, t + 4 &* width, rest)
  }
  if all.losses != nil { last.losses = t + 5 &* width }
  if all.gradient != nil { last.gradient = t + 6 &* width }
  let result = loop(last)
  if let losses = all.losses { copy(t + 5 &* width, losses + start, rest) }
  if let gradient = all.gradient { copy(t + 6 &* width, gradient + start, rest) }
  return result
}

/// loss = (1 - y) x + f softplus(-x) with f = 1 + (p - 1) y, as (1 - y) + p y, which cancels nothing; for
/// x < 0, where its terms cancel, as p y (-x) + f log(1 + exp(x)).
/// gradient = (1 - y) sigmoid(x) - p y sigmoid(-x).
@inline(__always)
private func logits(
  _ x: Lanes, _ y: Lanes, _ p: Lanes, hasPosWeight: Bool, wantsGradient: Bool
) -> (loss: Lanes, slope: Lanes) {
  let e = liftedExp(negativeMagnitude(x)) * Format.unlift
  let isNegative = lanes_less(x, all(0))
  let positive = hasPosWeight ? p * y : y
  let negative = 1 - y
  let linear = lanes_pick(isNegative, positive, negative) * magnitude(x)
  let tail = log1p(e)
  let loss = hasPosWeight ? fma(negative + positive, tail, linear) : linear + tail
  guard wantsGradient else { return (loss, loss) }
  let large = lanes_inverse(e + 1)  // sigmoid(|x|)
  let small = e * large
  let s = lanes_pick(isNegative, small, large)
  let t = lanes_pick(isNegative, large, small)
  return (loss, negative * s - positive * t)
}

@inline(__always)
private func logitsLoop(_ b: Elements, hasPosWeight: Bool, wantsGradient: Bool) -> Double {
  var sums = Sums()
  var i = 0
  while i < b.count {
    let p = hasPosWeight ? load(b.posWeight.unsafelyUnwrapped, i) : all(1)
    let (loss, slope) = logits(
      load(b.x, i), load(b.target, i), p, hasPosWeight: hasPosWeight,
      wantsGradient: wantsGradient)
    b.finish(i, loss, slope, wantsGradient, &sums)
    i &+= width
  }
  return sums.total
}

func binaryLogits(_ pointer: UnsafePointer<BinaryElements>) -> Double {
  eachVector(Elements(pointer.pointee)) {
    if $0.posWeight != nil { return weightedLogits($0) }
    return $0.gradient == nil ? lossOfLogits($0) : gradientOfLogits($0)
  }
}

@inline(never)
private func weightedLogits(_ b: Elements) -> Double {
  logitsLoop(b, hasPosWeight: true, wantsGradient: true)
}

@inline(never)
private func lossOfLogits(_ b: Elements) -> Double {
  logitsLoop(b, hasPosWeight: false, wantsGradient: false)
}

@inline(never)
private func gradientOfLogits(_ b: Elements) -> Double {
  logitsLoop(b, hasPosWeight: false, wantsGradient: true)
}

func binaryProbabilities(_ pointer: UnsafePointer<BinaryElements>) -> Double {
  eachVector(Elements(pointer.pointee)) {
    $0.gradient == nil ? lossOfProbabilities($0) : gradientOfProbabilities($0)
  }
}

@inline(never)
private func lossOfProbabilities(_ b: Elements) -> Double {
  probabilitiesLoop(b, wantsGradient: false)
}

@inline(never)
private func gradientOfProbabilities(_ b: Elements) -> Double {
  probabilitiesLoop(b, wantsGradient: true)
}

/// loss = -(y max(log x, -100) + (1 - y) max(log(1 - x), -100)), NaN where x or y is outside [0, 1];
/// gradient = (x - y) / max(x (1 - x), 1e-12).
@inline(__always)
private func probabilitiesLoop(_ b: Elements, wantsGradient: Bool) -> Double {
  // torch's bound of the denominator, a float32 in all types.
  let floor = all(Scalar(Float(1e-12)))
  var sums = Sums()
  var i = 0
  while i < b.count {
    let x = load(b.x, i)
    let y = load(b.target, i)
    let p = larger(all(-100), log(x))
    let q = larger(all(-100), log1pOfAny(0 - x))
    var loss = 0 - (y * p + (1 - y) * q)
    // False for NaN too.
    let isWithin =
      lanes_at_least(x, all(0)) & lanes_at_least(all(1), x) & lanes_at_least(y, all(0))
      & lanes_at_least(all(1), y)
    loss = lanes_pick(isWithin, loss, all(.nan))
    let slope = wantsGradient ? (x - y) * lanes_inverse(larger(floor, x * (1 - x))) : loss
    b.finish(i, loss, slope, wantsGradient, &sums)
    i &+= width
  }
  return sums.total
}

import LossdKernelTable

// Binary cross entropy of logits and of probabilities, with their gradients.

/// loss = (1 - y) x + f softplus(-x) with f = 1 + (p - 1) y, torch's formula, which fixes what infinities
/// give; for x < 0, where its terms cancel, as p y (-x) + f log(1 + exp(x)).
/// gradient = (1 - y) sigmoid(x) - p y sigmoid(-x).
@inline(__always)
private func ofLogits(
  _ x: Lanes, _ y: Lanes, _ p: Lanes, _ call: BinaryElements
) -> (loss: Lanes, gradient: Lanes) {
  let hasPosWeight = call.posWeight != nil
  let e = expNonPositive(-magnitude(x))
  let isNegative = x .< 0
  let large = 1 / (1 + e)  // sigmoid(|x|)
  let small = e * large
  let s = large.replacing(with: small, where: isNegative)
  let t = small.replacing(with: large, where: isNegative)
  let positive = hasPosWeight ? p * y : y
  let factor = hasPosWeight ? 1 + (p - 1) * y : Lanes(repeating: 1)
  var linear = ((1 - y) * x).replacing(with: -(positive * x), where: isNegative)
  if !call.isSymmetric {
    // At -infinity torch's formula has the difference of two infinities.
    linear = linear.replacing(with: .nan, where: x .== Lanes(repeating: -.infinity))
  }
  return (fma(factor, log1p(e), linear), (1 - y) * s - positive * t)
}

/// loss = -(y max(log x, -100) + (1 - y) max(log(1 - x), -100)), gradient = (x - y) / max(x (1 - x), 1e-12).
@inline(__always)
private func ofProbabilities(_ x: Lanes, _ y: Lanes) -> (loss: Lanes, gradient: Lanes) {
  // The zeros of either logarithm are what the clamp is for.
  let a = larger(Lanes(repeating: -100), logOfProbability(x))
    .replacing(with: -100, where: x .== 0)
  let b = logOfComplement(x).replacing(with: -100, where: x .== 1)
  let gradient = (x - y) / larger(Lanes(repeating: 1e-12), x * (1 - x))
  return (-fma(y, a, (1 - y) * b), gradient)
}

func binaryLogits(_ call: UnsafePointer<BinaryElements>) -> Double {
  binary(call.pointee, isLogits: true)
}

func binaryProbabilities(_ call: UnsafePointer<BinaryElements>) -> Double {
  binary(call.pointee, isLogits: false)
}

@inline(__always)
private func binary(_ b: BinaryElements, isLogits: Bool) -> Double {
  var total = Wide(repeating: 0)
  var i = 0
  let one = Lanes(repeating: 1)
  while i &+ width <= b.count {
    let p = b.posWeight == nil ? one : load(b.posWeight.unsafelyUnwrapped, i)
    let (x, y) = (load(b.x, i), load(b.target, i))
    var (loss, gradient) = isLogits ? ofLogits(x, y, p, b) : ofProbabilities(x, y)
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
  return horizontalSum(total) + rest(b, from: i, isLogits: isLogits)
}

/// The elements that fill no vector.
@inline(__always)
private func rest(_ b: BinaryElements, from i: Int, isLogits: Bool) -> Double {
  let part = b.count &- i
  if part == 0 { return 0 }
  let p =
    b.posWeight == nil
    ? Lanes(repeating: 1) : loadSome(b.posWeight.unsafelyUnwrapped + i, part)
  let (x, y) = (loadSome(b.x + i, part), loadSome(b.target + i, part))
  var (loss, gradient) = isLogits ? ofLogits(x, y, p, b) : ofProbabilities(x, y)
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
  var result = 0.0
  var lane = 0
  while lane < part {
    result += Double(loss[lane])
    lane &+= 1
  }
  return result
}

/// Whether all elements lie in [0, 1]; NaN does not.
func isProbability(_ x: UnsafePointer<Float>, _ count: Int) -> Bool {
  var bad: Int32 = 0
  var i = 0
  while i < count {
    bad |= (x[i] >= 0 ? 0 : 1) | (x[i] <= 1 ? 0 : 1)
    i &+= 1
  }
  return bad == 0
}

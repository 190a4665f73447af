// The one walk of all elementwise formulas: whole vectors, and a part of one before and behind them. Every formula has
// its own copy of the walk, specialised in this module.
internal import CLossdLanes
import LossdKernelTable

/// Computes a call's elements and returns the sum of the losses in the lanes' precision; 0 for an activation.
func computeElements(_ pointer: UnsafePointer<ElementCall>) -> Double {
  switch pointer.pointee.formula {
  case .sigmoid: walk(Sigmoid.self, pointer)
  case .binaryCrossEntropy: walk(BinaryCrossEntropy.self, pointer)
  case .binaryLogits: walk(BinaryLogits.self, pointer)
  case .weightedBinaryLogits: walk(WeightedBinaryLogits.self, pointer)
  case .gelu: walk(Gelu.self, pointer)
  case .geluTanh: walk(GeluTanh.self, pointer)
  case .smoothL1: walk(SmoothL1.self, pointer)
  case .relu: walk(Relu.self, pointer)
  case .hardTanh: walk(HardTanh.self, pointer)
  case .threshold: walk(Threshold.self, pointer)
  case .leakyRelu: walk(LeakyRelu.self, pointer)
  case .hardSigmoid: walk(HardSigmoid.self, pointer)
  case .hardSwish: walk(HardSwish.self, pointer)
  case .hardShrink: walk(HardShrink.self, pointer)
  case .softShrink: walk(SoftShrink.self, pointer)
  case .elu: walk(Elu.self, pointer)
  case .selu: walk(Selu.self, pointer)
  case .silu: walk(Silu.self, pointer)
  case .mish: walk(Mish.self, pointer)
  case .softplus: walk(Softplus.self, pointer)
  case .logSigmoid: walk(LogSigmoid.self, pointer)
  case .tanh: walk(Tanh.self, pointer)
  case .tanhshrink: walk(Tanhshrink.self, pointer)
  case .softsign: walk(Softsign.self, pointer)
  case .erf: walk(Erf.self, pointer)
  case .erfc: walk(Erfc.self, pointer)
  case .normalDistribution: walk(NormalDistribution.self, pointer)
  case .log1p: walk(Log1p.self, pointer)
  case .expm1: walk(Expm1.self, pointer)
  case .exp2: walk(Exp2.self, pointer)
  case .logit: walk(Logit.self, pointer)
  case .entropy: walk(Entropy.self, pointer)
  case .logNormalDistribution: walk(LogNormalDistribution.self, pointer)
  case .sinc: walk(Sinc.self, pointer)
  case .prelu: walk(Prelu.self, pointer)
  case .glu: walk(Glu.self, pointer)
  case .xLogY: walk(XLogY.self, pointer)
  case .xLog1pY: walk(XLog1pY.self, pointer)
  case .absoluteError: walk(AbsoluteError.self, pointer)
  case .squaredError: walk(SquaredError.self, pointer)
  case .huber: walk(Huber.self, pointer)
  case .logCosh: walk(LogCosh.self, pointer)
  case .quantile: walk(Quantile.self, pointer)
  case .divergence: walk(Divergence.self, pointer)
  case .divergenceOfLogs: walk(DivergenceOfLogs.self, pointer)
  case .poissonOfLog: walk(PoissonOfLog.self, pointer)
  case .poisson: walk(Poisson.self, pointer)
  case .softMargin: walk(SoftMargin.self, pointer)
  case .hingeEmbedding: walk(HingeEmbedding.self, pointer)
  case .sigmoidFocal: walk(SigmoidFocal.self, pointer)
  case .asymmetric: walk(Asymmetric.self, pointer)
  case .pairwiseSigmoid: walk(PairwiseSigmoid.self, pointer)
  case .gaussian: walk(Gaussian.self, pointer)
  case .marginRanking: walk(MarginRanking.self, pointer)
  }
}

/// The call with its pointers bound to this build's type.
private struct Elements {
  var x: Input
  var y: Input?
  var z: Input?
  var weight: Input?
  var upstream: Input?
  var values: Output?
  var slopes: Output?
  var slopesOfY: Output?
  var slopesOfZ: Output?
  var losses: Scratch?
  let a: Scalar
  let b: Scalar
  let c: Scalar
  let d: Scalar
  let scale: Scalar

  @inline(__always)
  init(_ call: ElementCall) {
    x = call.x.assumingMemoryBound(to: Element.self)
    y = call.y?.assumingMemoryBound(to: Element.self)
    z = call.z?.assumingMemoryBound(to: Element.self)
    weight = call.weight?.assumingMemoryBound(to: Element.self)
    upstream = call.upstream?.assumingMemoryBound(to: Element.self)
    values = call.values?.assumingMemoryBound(to: Element.self)
    slopes = call.slopes?.assumingMemoryBound(to: Element.self)
    slopesOfY = call.slopesOfY?.assumingMemoryBound(to: Element.self)
    slopesOfZ = call.slopesOfZ?.assumingMemoryBound(to: Element.self)
    losses = call.losses?.assumingMemoryBound(to: Scalar.self)
    a = Scalar(call.constants.a)
    b = Scalar(call.constants.b)
    c = Scalar(call.constants.c)
    d = Scalar(call.constants.d)
    scale = Scalar(call.scale)
  }

  /// Whether a derivative with respect to y or z is wanted.
  @inline(__always)
  var hasOtherSlopes: Bool { slopesOfY != nil || slopesOfZ != nil }

  /// Elements before the first that can be streamed; nil where nothing is to be written past the cache: results that lie
  /// in different places of a line, or in the place of what has just been read.
  @inline(__always)
  func streamedFrom(_ call: ElementCall) -> Int? {
    let isInPlace =
      isAt(call.values, call.x) || isAt(call.slopes, call.x) || isAt(call.slopesOfY, call.x)
    guard call.isStreamed, !isInPlace, let first = values ?? slopes ?? slopesOfY ?? slopesOfZ else {
      return nil
    }
    let isAlike =
      areAlike(values, slopes) && areAlike(first, slopesOfY) && areAlike(first, slopesOfZ)
    return isAlike ? misalignment(first) : nil
  }
}

/// Which derivatives a loop computes. Constants where a loop is inlined: a loop for each is code for each formula.
private enum Slopes { case none, ofX, ofXAlone, ofAll }

@inline(never)
private func walk<F: ElementFormula>(_ f: F.Type, _ pointer: UnsafePointer<ElementCall>) -> Double {
  let c = Elements(pointer.pointee)
  if !F.isLoss && c.values == nil && c.slopes == nil && !c.hasOtherSlopes { return 0 }
  let count = pointer.pointee.count
  var from = 0
  var total = 0.0
  var isStreamed = false
  if let head = c.streamedFrom(pointer.pointee) {
    isStreamed = true
    if head > 0 {
      from = head < count ? head : count
      total = part(f, c, 0, from)
    }
  }
  let rest = (count &- from) & (width &- 1)
  let end = count &- rest
  if from < end {
    total = total + whole(f, c, from, end, isStreamed)
  }
  if rest > 0 { total = total + part(f, c, end, rest) }
  return total
}

/// Elements from ..< end, whole vectors.
@inline(never)
private func whole<F: ElementFormula>(
  _ f: F.Type, _ c: Elements, _ from: Int, _ end: Int, _ isStreamed: Bool
) -> Double {
  if F.operandCount > 1 && c.hasOtherSlopes {
    return loop(f, c, from, end, .ofAll, isStreamed)
  }
  if c.slopes == nil { return loop(f, c, from, end, .none, isStreamed) }
  // A loss is computed for its sum even where nobody wants each.
  return F.isLoss || c.values != nil
    ? loop(f, c, from, end, .ofX, isStreamed)
    : loop(f, c, from, end, .ofXAlone, isStreamed)
}

@inline(__always)
private func loop<F: ElementFormula>(
  _ f: F.Type, _ c: Elements, _ from: Int, _ end: Int, _ slopes: Slopes, _ isStreamed: Bool
) -> Double {
  var sum = all(0)
  var i = from
  while i < end {
    let value = compute(f, c, i, slopes, isStreamed)
    if F.isLoss {
      sum = sum + value
      if let losses = c.losses { put(value, losses, i) }
    }
    i &+= width
  }
  return F.isLoss ? wide_total(wide_of(sum)) : 0
}

/// Fewer elements than a vector has, `count` from `from` on: through a vector of each operand and result on the stack, so
/// that a formula has no further code for them.
@inline(never)
private func part<F: ElementFormula>(
  _ f: F.Type, _ c: Elements, _ from: Int, _ count: Int
) -> Double {
  var room = Room()
  let base = room.elements()
  var inner = c
  inner.x = taken(c.x, from, count, base) ?? c.x
  if F.operandCount > 1 { inner.y = taken(c.y, from, count, base + width) }
  if F.operandCount > 2 { inner.z = taken(c.z, from, count, base + 2 &* width) }
  inner.weight = taken(c.weight, from, count, base + 3 &* width)
  inner.upstream = taken(c.upstream, from, count, base + 4 &* width)
  inner.values = c.values == nil ? nil : base + 5 &* width
  inner.slopes = c.slopes == nil ? nil : base + 6 &* width
  // What no loop writes is not to be given: it is what was on the stack.
  let (hasY, hasZ) = (F.operandCount > 1, F.operandCount > 2)
  inner.slopesOfY = hasY && c.slopesOfY != nil ? base + 7 &* width : nil
  inner.slopesOfZ = hasZ && c.slopesOfZ != nil ? base + 8 &* width : nil
  // The losses are added here: those of the lanes behind the last are not wanted.
  let losses = room.losses()
  inner.losses = losses
  _ = whole(f, inner, 0, width, false)
  give(inner.values, c.values, from, count)
  give(inner.slopes, c.slopes, from, count)
  give(inner.slopesOfY, c.slopesOfY, from, count)
  give(inner.slopesOfZ, c.slopesOfZ, from, count)
  guard F.isLoss else { return 0 }
  var total = 0.0
  var lane = 0
  while lane < count {
    if let goal = c.losses { goal[from &+ lane] = losses[lane] }
    total = total + Double(losses[lane])
    lane &+= 1
  }
  return total
}

/// A vector of each operand and result.
private struct Room {
  private typealias Three = (Lanes, Lanes, Lanes)
  private var storage: (Three, Three, Three)
  private var sum: Lanes

  @inline(__always)
  init() {
    let v = lanes_unset()
    storage = ((v, v, v), (v, v, v), (v, v, v))
    sum = v
  }

  /// A vector of losses, not rounded to 16 bits.
  @inline(__always)
  mutating func losses() -> Scratch {
    withUnsafeMutablePointer(to: &sum) {
      UnsafeMutableRawPointer($0).assumingMemoryBound(to: Scalar.self)
    }
  }

  @inline(__always)
  mutating func elements() -> Output {
    // The room lives on the caller's stack as long as the caller uses this pointer.
    withUnsafeMutablePointer(to: &storage) {
      UnsafeMutableRawPointer($0).assumingMemoryBound(to: Element.self)
    }
  }
}

/// Elements of an operand, with zeros behind them, at `place`.
@inline(__always)
private func taken(_ base: Input?, _ from: Int, _ count: Int, _ place: Output) -> Input? {
  guard let base else { return nil }
  store(lanes_load_part(base + from, count), place, 0)
  return Input(place)
}

/// The first results of a vector to where they belong.
@inline(__always)
private func give(_ place: Output?, _ base: Output?, _ from: Int, _ count: Int) {
  if let place, let base { lanes_store_first(base + from, load(place, 0), count) }
}

/// Computes and writes a vector of elements from `i` on, and returns the weighted values.
@inline(__always)
private func compute<F: ElementFormula>(
  _ f: F.Type, _ c: Elements, _ i: Int, _ slopes: Slopes, _ isStreamed: Bool
) -> Lanes {
  let operands = Operands(
    x: load(c.x, i), y: F.operandCount > 1 ? load(c.y.unsafelyUnwrapped, i) : all(0),
    z: F.operandCount > 2 ? load(c.z.unsafelyUnwrapped, i) : all(0),
    a: all(c.a), b: all(c.b), c: all(c.c), d: all(c.d))
  let results = F.results(operands)
  var value = slopes == .none ? F.value(operands) : results.value
  var (slope, slopeOfY, slopeOfZ) = (results.slope, results.slopeOfY, results.slopeOfZ)
  if F.isLoss {
    if let weight = c.weight {
      let w = load(weight, i)
      value = value * w
      slope = slope * w
      slopeOfY = slopeOfY * w
      slopeOfZ = slopeOfZ * w
    }
    if slopes != .none {
      var factor = all(c.scale)
      if let upstream = c.upstream { factor = factor * load(upstream, i) }
      slope = slope * factor
      slopeOfY = slopeOfY * factor
      slopeOfZ = slopeOfZ * factor
    }
  } else if slopes != .none, let upstream = c.upstream {
    let g = load(upstream, i)
    slope = F.isMasked ? lanes_pick(lanes_equal(slope, all(0)), all(0), slope * g) : slope * g
    slopeOfY =
      F.isMasked ? lanes_pick(lanes_equal(slopeOfY, all(0)), all(0), slopeOfY * g) : slopeOfY * g
  }
  if slopes != .ofXAlone, let values = c.values { give(value, values, i, isStreamed) }
  if slopes != .none, let goal = c.slopes { give(slope, goal, i, isStreamed) }
  if slopes == .ofAll {
    if let goal = c.slopesOfY { give(slopeOfY, goal, i, isStreamed) }
    if F.operandCount > 2, let goal = c.slopesOfZ { give(slopeOfZ, goal, i, isStreamed) }
  }
  return value
}

@inline(__always)
private func give(_ value: Lanes, _ base: Output, _ i: Int, _ isStreamed: Bool) {
  if isStreamed {
    lanes_stream(base + i, value)
  } else {
    store(value, base, i)
  }
}

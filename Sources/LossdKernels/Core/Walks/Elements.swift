// The one walk of all elementwise formulas: whole vectors, and a part of one before and behind them. Every formula has
// its own copy of the walk, specialised in this module.
internal import CLossdLanes
import LossdKernelTable

/// Computes a call's elements and returns the sum of the losses; 0 for an activation.
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
  }
}

/// The call with its pointers bound to this build's type.
private struct Elements {
  let x: Input
  let y: Input?
  let z: Input?
  let weight: Input?
  let upstream: Input?
  let values: Output?
  let slopes: Output?
  let slopesOfY: Output?
  let a: Scalar
  let b: Scalar
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
    a = Scalar(call.constants.a)
    b = Scalar(call.constants.b)
    scale = Scalar(call.scale)
  }

  /// Elements before the first that can be streamed; nil where nothing is to be written past the cache: results that lie
  /// in different places of a line, or in the place of what has just been read.
  @inline(__always)
  func streamedFrom(_ call: ElementCall) -> Int? {
    let isInPlace =
      isAt(call.values, call.x) || isAt(call.slopes, call.x) || isAt(call.slopesOfY, call.x)
    guard call.isStreamed, !isInPlace, let first = values ?? slopes ?? slopesOfY else { return nil }
    let isAlike = areAlike(values, slopes) && areAlike(first, slopesOfY)
    return isAlike ? misalignment(first) : nil
  }
}

/// Which derivatives a loop computes. Constants where a loop is inlined: a loop for each is code for each formula.
private enum Slopes { case none, ofX, ofXAlone, ofBoth }

@inline(never)
private func walk<F: ElementFormula>(_ f: F.Type, _ pointer: UnsafePointer<ElementCall>) -> Double {
  let c = Elements(pointer.pointee)
  if !F.isLoss && c.values == nil && c.slopes == nil { return 0 }
  let count = pointer.pointee.count
  var from = 0
  var total = 0.0
  var isStreamed = false
  if let head = c.streamedFrom(pointer.pointee) {
    // The order of a sum must not depend on where the results lie.
    isStreamed = head == 0 || !F.isLoss
    if isStreamed && head > 0 {
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
@inline(__always)
private func whole<F: ElementFormula>(
  _ f: F.Type, _ c: Elements, _ from: Int, _ end: Int, _ isStreamed: Bool
) -> Double {
  if F.operandCount > 1 && c.slopesOfY != nil { return loop(f, c, from, end, .ofBoth, isStreamed) }
  if c.slopes == nil { return loop(f, c, from, end, .none, isStreamed) }
  // A loss is computed for its sum even where nobody wants each.
  return F.isLoss || c.values != nil
    ? loop(f, c, from, end, .ofX, isStreamed) : loop(f, c, from, end, .ofXAlone, isStreamed)
}

@inline(__always)
private func loop<F: ElementFormula>(
  _ f: F.Type, _ c: Elements, _ from: Int, _ end: Int, _ slopes: Slopes, _ isStreamed: Bool
) -> Double {
  var sums = Sums()
  var i = from
  while i < end {
    let value = compute(f, c, i, width, slopes, isStreamed)
    if F.isLoss { sums.add(value) }
    i &+= width
  }
  return F.isLoss ? sums.total : 0
}

/// Fewer elements than a vector has, `count` from `from` on.
@inline(never)
private func part<F: ElementFormula>(
  _ f: F.Type, _ c: Elements, _ from: Int, _ count: Int
) -> Double {
  let value =
    F.operandCount > 1 && c.slopesOfY != nil
    ? compute(f, c, from, count, .ofBoth, false)
    : c.slopes == nil
      ? compute(f, c, from, count, .none, false) : compute(f, c, from, count, .ofX, false)
  guard F.isLoss else { return 0 }
  var sums = Sums()
  sums.add(lanes_pick(lanes_less(laneNumbers, all(Scalar(count))), value, all(0)))
  return sums.total
}

/// Computes and writes `count` <= `width` elements from `i` on, and returns the weighted values.
@inline(__always)
private func compute<F: ElementFormula>(
  _ f: F.Type, _ c: Elements, _ i: Int, _ count: Int, _ slopes: Slopes, _ isStreamed: Bool
) -> Lanes {
  let operands = Operands(
    x: take(c.x, i, count), y: F.operandCount > 1 ? take(c.y.unsafelyUnwrapped, i, count) : all(0),
    z: F.operandCount > 2 ? take(c.z.unsafelyUnwrapped, i, count) : all(0),
    a: all(c.a), b: all(c.b))
  let results = F.results(operands)
  var value = slopes == .none ? F.value(operands) : results.value
  var (slope, slopeOfY) = (results.slope, results.slopeOfY)
  if F.isLoss {
    if let weight = c.weight {
      let w = take(weight, i, count)
      value = value * w
      slope = slope * w
      slopeOfY = slopeOfY * w
    }
    if slopes != .none {
      var factor = all(c.scale)
      if let upstream = c.upstream { factor = factor * take(upstream, i, count) }
      slope = slope * factor
      slopeOfY = slopeOfY * factor
    }
  } else if slopes != .none, let upstream = c.upstream {
    let product = slope * take(upstream, i, count)
    slope = F.isMasked ? lanes_pick(lanes_equal(slope, all(0)), all(0), product) : product
  }
  if slopes != .ofXAlone, let values = c.values { give(value, values, i, count, isStreamed) }
  if slopes != .none, let goal = c.slopes { give(slope, goal, i, count, isStreamed) }
  if slopes == .ofBoth {
    give(slopeOfY, c.slopesOfY.unsafelyUnwrapped, i, count, isStreamed)
  }
  return value
}

@inline(__always)
private func take(_ base: Input, _ i: Int, _ count: Int) -> Lanes {
  count == width ? load(base, i) : lanes_load_part(base + i, count)
}

@inline(__always)
private func give(_ value: Lanes, _ base: Output, _ i: Int, _ count: Int, _ isStreamed: Bool) {
  if count != width {
    lanes_store_first(base + i, value, count)
  } else if isStreamed {
    lanes_stream(base + i, value)
  } else {
    store(value, base, i)
  }
}

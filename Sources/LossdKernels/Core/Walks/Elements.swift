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
  let constant: Scalar
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
    constant = Scalar(call.constant)
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

/// Which results a loop computes, and how it writes them. Constants where a loop is inlined.
private struct Manner {
  var wantsValue = false
  var wantsSlope = false
  var wantsSlopeOfY = false
  /// An activation's slopes are multiplied by upstream gradients; for losses the call says.
  var isUpstream = false
  var isStreamed = false

  /// Nothing that is wanted can be left out: what a loop need not ask for each vector.
  @inline(__always)
  var isCertain: Bool { !wantsSlopeOfY }
}

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
    total = total + (isStreamed ? whole(f, c, from, end, true) : whole(f, c, from, end, false))
  }
  if rest > 0 { total = total + part(f, c, end, rest) }
  return total
}

/// Elements from ..< end, whole vectors.
@inline(__always)
private func whole<F: ElementFormula>(
  _ f: F.Type, _ c: Elements, _ from: Int, _ end: Int, _ isStreamed: Bool
) -> Double {
  // A loss is computed for its sum even where nobody wants each.
  let wantsValue = F.isLoss || c.values != nil
  if c.slopesOfY != nil && F.operandCount > 1 {
    return loop(
      f, c, from, end,
      Manner(wantsValue: true, wantsSlope: true, wantsSlopeOfY: true, isStreamed: isStreamed))
  }
  if c.slopes == nil {
    return loop(f, c, from, end, Manner(wantsValue: true, isStreamed: isStreamed))
  }
  if !F.isLoss && c.upstream != nil {
    return slopes(f, c, from, end, wantsValue, Manner(isUpstream: true, isStreamed: isStreamed))
  }
  return slopes(f, c, from, end, wantsValue, Manner(isStreamed: isStreamed))
}

@inline(__always)
private func slopes<F: ElementFormula>(
  _ f: F.Type, _ c: Elements, _ from: Int, _ end: Int, _ wantsValue: Bool, _ manner: Manner
) -> Double {
  var manner = manner
  manner.wantsSlope = true
  if !wantsValue { return loop(f, c, from, end, manner) }
  manner.wantsValue = true
  return loop(f, c, from, end, manner)
}

@inline(__always)
private func loop<F: ElementFormula>(
  _ f: F.Type, _ c: Elements, _ from: Int, _ end: Int, _ manner: Manner
) -> Double {
  var sums = Sums()
  var i = from
  while i < end {
    let value = compute(f, c, i, width, manner)
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
  let value: Lanes
  if F.operandCount > 1 && c.slopesOfY != nil {
    value = compute(
      f, c, from, count, Manner(wantsValue: true, wantsSlope: true, wantsSlopeOfY: true))
  } else if c.slopes == nil {
    value = compute(f, c, from, count, Manner(wantsValue: true))
  } else if F.isLoss {
    value = compute(f, c, from, count, Manner(wantsValue: true, wantsSlope: true))
  } else if c.values != nil {
    value = activation(f, c, from, count, Manner(wantsValue: true, wantsSlope: true))
  } else {
    value = activation(f, c, from, count, Manner(wantsSlope: true))
  }
  guard F.isLoss else { return 0 }
  var sums = Sums()
  sums.add(lanes_pick(lanes_less(laneNumbers, all(Scalar(count))), value, all(0)))
  return sums.total
}

@inline(__always)
private func activation<F: ElementFormula>(
  _ f: F.Type, _ c: Elements, _ from: Int, _ count: Int, _ manner: Manner
) -> Lanes {
  if c.upstream == nil { return compute(f, c, from, count, manner) }
  var manner = manner
  manner.isUpstream = true
  return compute(f, c, from, count, manner)
}

/// Computes and writes `count` <= `width` elements from `i` on, and returns the weighted values.
@inline(__always)
private func compute<F: ElementFormula>(
  _ f: F.Type, _ c: Elements, _ i: Int, _ count: Int, _ manner: Manner
) -> Lanes {
  let operands = Operands(
    x: take(c.x, i, count), y: F.operandCount > 1 ? take(c.y.unsafelyUnwrapped, i, count) : all(0),
    z: F.operandCount > 2 ? take(c.z.unsafelyUnwrapped, i, count) : all(0),
    constant: all(c.constant))
  let isValueAlone = !manner.wantsSlope && !manner.wantsSlopeOfY
  let results = F.results(operands)
  var value = isValueAlone ? F.value(operands) : results.value
  var (slope, slopeOfY) = (results.slope, results.slopeOfY)
  if F.isLoss, let weight = c.weight {
    let w = take(weight, i, count)
    value = value * w
    slope = slope * w
    slopeOfY = slopeOfY * w
  }
  if !isValueAlone {
    if F.isLoss {
      var factor = all(c.scale)
      if let upstream = c.upstream { factor = factor * take(upstream, i, count) }
      slope = slope * factor
      slopeOfY = slopeOfY * factor
    } else if manner.isUpstream {
      slope = slope * take(c.upstream.unsafelyUnwrapped, i, count)
    }
  }
  if manner.wantsValue, c.values != nil || !F.isLoss && manner.isCertain {
    give(value, c.values.unsafelyUnwrapped, i, count, manner.isStreamed)
  }
  if manner.wantsSlope, c.slopes != nil || manner.isCertain {
    give(slope, c.slopes.unsafelyUnwrapped, i, count, manner.isStreamed)
  }
  if manner.wantsSlopeOfY {
    give(slopeOfY, c.slopesOfY.unsafelyUnwrapped, i, count, manner.isStreamed)
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

// Softmax, its logarithm and their gradients, with g the upstream gradient. Types: all. Range:
// every number below infinity. Error: within 3 ulp of the exact result, of 1 where a difference of
// larger numbers is smaller; measured by SoftmaxTests. Source: Bridle (1990), "Probabilistic
// interpretation of feedforward classification network outputs".
internal import CLossdLanes

/// p; its gradient is p (g - sum(g p)).
enum Softmax: SoftmaxFormula {
  static var isOfExponentials: Bool { true }

  @inline(__always)
  static func add(_ o: RowOperands, to sums: inout Sums, _ isNew: Bits?) {
    sums.add(only(isNew, o.y), times: o.exponential)
  }

  @inline(__always)
  static func term(_ o: RowOperands) -> Lanes { o.y * o.exponential }

  @inline(__always)
  static func dot(_ row: RowFacts, _ c: RowConstants) -> Wide {
    if row.areOfProbabilities { return row.first }
    // Without an upstream gradient 1, or NaN where the row has one.
    if !c.hasUpstream { return row.total / row.total }
    return row.first * row.number(Double(Format.unlift)) / row.total
  }

  @inline(__always)
  static func value(_ o: RowOperands, _ n: RowNumbers) -> Lanes { o.exponential * n.factor }

  @inline(__always)
  static func gradient(_ o: RowOperands, _ n: RowNumbers) -> Lanes {
    o.exponential * n.factor * (o.y - n.dot)
  }
}

/// log(p) = (x - m) - log(sum(exp(x - m))); its gradient is g - p sum(g).
enum LogSoftmax: SoftmaxFormula {
  static var isOfExponentials: Bool { false }

  @inline(__always)
  static func add(_ o: RowOperands, to sums: inout Sums, _ isNew: Bits?) {
    sums.add(only(isNew, o.y))
  }

  @inline(__always)
  static func term(_ o: RowOperands) -> Lanes { o.y }

  @inline(__always)
  static func dot(_ row: RowFacts, _ c: RowConstants) -> Wide {
    c.hasUpstream ? row.first : row.number(Double(c.size))
  }

  @inline(__always)
  static func value(_ o: RowOperands, _ n: RowNumbers) -> Lanes { (o.x - n.maximum) - n.logarithm }

  @inline(__always)
  static func gradient(_ o: RowOperands, _ n: RowNumbers) -> Lanes {
    o.y - o.exponential * n.factor * n.dot
  }
}

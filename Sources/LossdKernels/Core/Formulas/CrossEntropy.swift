// Cross entropy of logits with class indices and with class probabilities. Types: all. Range:
// numbers whose losses stay below 1e29 (float64: 1e299); what is beyond is the scalar reference's
// to say. Error: losses within 3 ulp of float64 or 2 of float32, gradients within 3 ulp of their
// terms; measured by CrossEntropyTests. Source: torch.nn.functional.cross_entropy; label smoothing:
// Szegedy and others (2016), "Rethinking the Inception architecture for computer vision".
internal import CLossdLanes

/// Of the class y, with e the smoothing, C classes, w their weights and W the sum of these, the loss
/// is
///   (1 - e) w_y (lse - x_y) + e / C sum_c w_c (lse - x_c)
/// and its gradient, times the row's scale s,
///   s ((1 - e) w_y + e W / C) p_c - s (1 - e) w_y [c = y] - s e w_c / C.
protocol ClassIndexFormula: RowLossFormula {}

/// Without smoothing: e = 0.
enum CrossEntropy: ClassIndexFormula {
  static var hasSums: Bool { false }

  @inline(__always)
  static func add(_ o: RowOperands, to sums: inout RowSums, _ isNew: Bits?, _ c: RowConstants) {}

  @inline(__always)
  static func gradient(_ o: RowOperands, _ n: RowNumbers, _ c: RowConstants) -> Lanes {
    o.exponential * n.factor
  }
}

enum SmoothedCrossEntropy: ClassIndexFormula {
  static var hasSums: Bool { true }

  /// sum_c w_c (m - x_c).
  @inline(__always)
  static func add(_ o: RowOperands, to sums: inout RowSums, _ isNew: Bits?, _ c: RowConstants) {
    sums.first.add(difference: o.maximum, o.x, times: only(isNew, o.weight))
  }

  @inline(__always)
  static func gradient(_ o: RowOperands, _ n: RowNumbers, _ c: RowConstants) -> Lanes {
    o.exponential * n.factor - n.dot * o.weight
  }
}

extension ClassIndexFormula {
  static var hasLabels: Bool { true }

  @inline(__always)
  static func loss(_ row: RowFacts, _ c: RowConstants) -> Wide {
    let nearest = row.number(c.kept) * row.weight * (row.distance + row.logarithm)
    if !hasSums { return nearest }
    let spread = row.first + row.number(c.weightSum) * row.logarithm
    return nearest + row.number(c.share) * spread
  }

  /// s (1 - e) w_y.
  @inline(__always)
  private static func kept(_ row: RowFacts, _ c: RowConstants) -> Wide {
    row.scale * row.number(c.kept) * row.weight
  }

  @inline(__always)
  static func dot(_ row: RowFacts, _ c: RowConstants) -> Wide { row.scale * row.number(c.share) }

  @inline(__always)
  static func factor(_ row: RowFacts, _ c: RowConstants) -> Wide {
    (kept(row, c) + dot(row, c) * row.number(c.weightSum)) / row.total
  }

  @inline(__always)
  static func own(
    _ row: RowFacts, _ c: RowConstants, factor: Wide, exponential: Wide, weight: Wide
  ) -> Wide {
    let own = exponential * factor - kept(row, c)
    return hasSums ? own - dot(row, c) * weight : own
  }
}

/// Of probabilities t, with v_c = w_c (t_c (1 - e) + e / C) the loss is sum_c v_c (lse - x_c) and its
/// gradient, times the row's scale, p_c sum(v) - v_c. Where logits are so far apart that torch's
/// logarithms overflow, a share near 0 would hide it: the loss is made NaN.
enum ProbabilityCrossEntropy: RowLossFormula {
  static var hasLabels: Bool { false }
  static var hasSums: Bool { true }

  /// v.
  @inline(__always)
  private static func share(_ o: RowOperands, _ c: RowConstants) -> Wide {
    let y = wide_of(o.y) * allWide(c.kept) + allWide(c.share)
    return c.isWeighted ? y * wide_of(o.weight) : y
  }

  /// sum(v) and sum_c v_c (m - x_c).
  @inline(__always)
  static func add(_ o: RowOperands, to sums: inout RowSums, _ isNew: Bits?, _ c: RowConstants) {
    var v = share(o, c)
    if let isNew { v = wide_pick(wide_mask(isNew), v, allWide(0)) }
    sums.largest = larger(sums.largest, o.maximum - o.x)
    sums.first.add(wide: v)
    sums.second.add(wide: v * (wide_of(o.maximum) - wide_of(o.x)))
  }

  @inline(__always)
  static func loss(_ row: RowFacts, _ c: RowConstants) -> Wide {
    let isFar = wide_mask(lanes_at_least(row.largest, all(Format.far)))
    return wide_pick(isFar, allWide(.nan), row.logarithm * row.first + row.second)
  }

  @inline(__always)
  static func dot(_ row: RowFacts, _ c: RowConstants) -> Wide { row.scale }

  @inline(__always)
  static func factor(_ row: RowFacts, _ c: RowConstants) -> Wide {
    row.scale * row.first / row.total
  }

  @inline(__always)
  static func gradient(_ o: RowOperands, _ n: RowNumbers, _ c: RowConstants) -> Lanes {
    o.exponential * n.factor - wide_narrowed(share(o, c)) * n.dot
  }

  @inline(__always)
  static func gradient(_ o: RowOperands, _ n: RowNumbers, wideDot: Wide, _ c: RowConstants)
    -> Lanes
  { o.exponential * n.factor - wide_narrowed(share(o, c) * wideDot) }
}

/// -w_y x_y of log-probabilities x.
enum Likelihood: PickedFormula {
  @inline(__always)
  static func loss(_ x: Double, _ weight: Double) -> Double { -weight * x }

  @inline(__always)
  static func slope(_ weight: Double) -> Double { -weight }
}

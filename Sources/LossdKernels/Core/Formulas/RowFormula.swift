internal import CLossdLanes

// What is computed of rows of elements x by p = exp(x - m) / sum(exp(x - m)), m the largest x of the
// row, apart from where the elements lie: see Walks/Rows.swift. A formula holds no pointer and names
// no type but the lanes'. What it adds up over a row comes beside the exponentials; what it makes of
// the sums is in float64, of one row or of as many as there are lanes.

/// A vector of a row's elements, or an element of each of as many rows as there are lanes.
struct RowOperands {
  var x: Lanes
  /// exp(x - m), lifted; where sums are `RowFacts.areOfProbabilities`, p.
  var exponential: Lanes
  var maximum = all(0)
  /// The upstream gradient, or the target.
  var y = all(1)
  /// The class's weight.
  var weight = all(1)
}

/// What a call's rows have in common.
struct RowConstants {
  let hasUpstream: Bool
  let size: Int
  /// With e the smoothing and C classes, 1 - e and e / C.
  let kept: Double
  let share: Double
  /// The sum of the weights of all classes, and whether there are weights other than 1.
  let weightSum: Double
  let isWeighted: Bool
}

/// What results are made of: numbers of the row, in all lanes, or of each row in its lane.
struct RowNumbers {
  var maximum = all(0)
  /// What lifted exponentials are multiplied by.
  var factor = all(0)
  /// log(sum(exp(x - m))).
  var logarithm = all(0)
  /// What is subtracted, times what the formula says.
  var dot = all(0)
}

/// What is known of rows once their elements are added up: of one in the first lane, or of each in
/// its lane.
struct RowFacts {
  /// Whether it is one row. A constant where a formula is inlined: its arithmetic is scalar then.
  let isOne: Bool
  /// sum(exp(x - m)) and its logarithm.
  var total: Wide
  var logarithm: Wide
  /// `RowSums`.
  var first: Wide
  var second = allWide(0)
  var largest = all(0)
  /// The weight of the row's class, what its gradient is multiplied by, and m - x of the class.
  var weight = allWide(1)
  var scale = allWide(1)
  var distance = allWide(0)

  /// Whether sums are over probabilities, where `total` is known before, or over lifted
  /// exponentials.
  @inline(__always)
  var areOfProbabilities: Bool { !isOne }

  @inline(__always)
  func number(_ value: Double) -> Wide { isOne ? wide_first(value) : allWide(value) }
}

/// A formula whose values and gradients are like x.
protocol SoftmaxFormula {
  /// Whether values and sums are of the exponentials, not of x and y alone.
  static var isOfExponentials: Bool { get }

  /// Adds a term to what `dot` is made of. `isNew`: the lanes that count; nil: all.
  static func add(_ o: RowOperands, to sums: inout Sums, _ isNew: Bits?)
  /// The term itself, rounded.
  static func term(_ o: RowOperands) -> Lanes
  /// What upstream gradients are less of, or times what p is subtracted from them.
  static func dot(_ row: RowFacts, _ c: RowConstants) -> Wide
  static func value(_ o: RowOperands, _ n: RowNumbers) -> Lanes
  static func gradient(_ o: RowOperands, _ n: RowNumbers) -> Lanes
}

/// A formula with a loss a row and a gradient like x.
protocol RowLossFormula {
  /// Whether each row has a class, whose gradient is `own`; -1 stands for none, a loss and a
  /// gradient of 0.
  static var hasLabels: Bool { get }
  /// Whether anything is added up beside the exponentials.
  static var hasSums: Bool { get }

  static func add(_ o: RowOperands, to sums: inout RowSums, _ isNew: Bits?, _ c: RowConstants)
  static func loss(_ row: RowFacts, _ c: RowConstants) -> Wide
  /// What exponentials that are not lifted are multiplied by in the gradient.
  static func factor(_ row: RowFacts, _ c: RowConstants) -> Wide
  /// `RowNumbers.dot`.
  static func dot(_ row: RowFacts, _ c: RowConstants) -> Wide
  /// The gradient of the row's class, where there is one, from its exponential, not lifted, and its
  /// weight.
  static func own(
    _ row: RowFacts, _ c: RowConstants, factor: Wide, exponential: Wide, weight: Wide
  ) -> Wide
  static func gradient(_ o: RowOperands, _ n: RowNumbers, _ c: RowConstants) -> Lanes
  /// The same of short contiguous rows, with `dot` in float64.
  static func gradient(_ o: RowOperands, _ n: RowNumbers, wideDot: Wide, _ c: RowConstants)
    -> Lanes
}

extension RowLossFormula {
  @inline(__always)
  static func own(
    _ row: RowFacts, _ c: RowConstants, factor: Wide, exponential: Wide, weight: Wide
  ) -> Wide { factor }

  @inline(__always)
  static func gradient(_ o: RowOperands, _ n: RowNumbers, wideDot: Wide, _ c: RowConstants)
    -> Lanes
  { gradient(o, n, c) }
}

/// What a loss adds up over a row.
struct RowSums {
  var first = Sums()
  var second = Sums()
  var largest = all(0)

  @inline(__always)
  init() {}
}

/// `value` where lanes are new, else 0.
@inline(__always)
func only(_ isNew: Bits?, _ value: Lanes) -> Lanes {
  isNew == nil ? value : lanes_pick(isNew.unsafelyUnwrapped, value, all(0))
}

/// A loss of one element a row, that of its class, and of its weight; the gradient is 0 at all
/// others.
protocol PickedFormula {
  static func loss(_ x: Double, _ weight: Double) -> Double
  static func slope(_ weight: Double) -> Double
}

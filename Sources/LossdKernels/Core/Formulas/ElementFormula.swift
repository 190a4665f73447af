internal import CLossdLanes

/// What is computed of one element, apart from where the element lies: see Walks/Elements.swift. A formula holds no
/// pointer and names no type but the lanes.
protocol ElementFormula {
  /// How many of `Operands.x`, `y` and `z` the formula reads.
  static var operandCount: Int { get }
  /// Whether the values are losses: weighted and added up.
  static var isLoss: Bool { get }

  /// Whether a slope of 0 stops any upstream gradient, even an infinite one or NaN, as torch's masks do.
  static var isMasked: Bool { get }

  /// The value where nothing else is wanted; by default that of `results`.
  static func value(_ o: Operands) -> Lanes
  /// The value and its derivatives. What a caller leaves unused is not computed: everything is inlined and pure.
  static func results(_ o: Operands) -> ElementResults
}

extension ElementFormula {
  static var isLoss: Bool { true }
  static var isMasked: Bool { false }

  @inline(__always)
  static func value(_ o: Operands) -> Lanes { results(o).value }
}

/// A formula of one operand, whose values are not losses.
protocol ActivationFormula: ElementFormula {}

extension ActivationFormula {
  static var operandCount: Int { 1 }
  static var isLoss: Bool { false }
}

/// The same of two operands.
protocol PairActivationFormula: ElementFormula {}

extension PairActivationFormula {
  static var operandCount: Int { 2 }
  static var isLoss: Bool { false }
}

/// A formula of an input x and a target y.
protocol PairFormula: ElementFormula {}

extension PairFormula {
  static var operandCount: Int { 2 }
}

/// An element of each operand, a lane each, and the call's constants.
struct Operands {
  let x: Lanes
  let y: Lanes
  let z: Lanes
  let a: Lanes
  let b: Lanes
  let c: Lanes
  let d: Lanes
}

/// A value and its derivatives with respect to x, y and z.
struct ElementResults {
  let value: Lanes
  let slope: Lanes
  let slopeOfY: Lanes
  let slopeOfZ: Lanes

  @inline(__always)
  init(_ value: Lanes, slope: Lanes) {
    self.init(value, slope: slope, slopeOfY: slope, slopeOfZ: slope)
  }

  @inline(__always)
  init(_ value: Lanes, slope: Lanes, slopeOfY: Lanes) {
    self.init(value, slope: slope, slopeOfY: slopeOfY, slopeOfZ: slopeOfY)
  }

  @inline(__always)
  init(_ value: Lanes, slope: Lanes, slopeOfY: Lanes, slopeOfZ: Lanes) {
    self.value = value
    self.slope = slope
    self.slopeOfY = slopeOfY
    self.slopeOfZ = slopeOfZ
  }
}

import LossdKernelTable
import LossdPluginKit
import LossdTensor

/// A function of one element of each operand: an activation of `input`, or a loss of `input` and `target`. How tensors
/// are walked, converted, broadcast, weighted and reduced is written once, in the extensions of this protocol; what is
/// computed is a formula of the kernels; a function says what it is called and takes.
protocol ElementFunction: Function where State == ElementState {
  /// Where operands and results are in the declaration.
  static var places: ElementPlaces { get }
  /// How many of the function's own attributes are numbers for the formula: its first ones.
  static var constantCount: Int { get }

  /// What the kernels compute of this call.
  static func formula(_ call: Call) -> ElementFormulaID
  /// What integers become where they stay of their type; nil: they do not.
  static func integers(_ attributes: Attributes) -> IntegerPieces?
  /// The formula of the input alone that stands for it where the second operand is one number, its first constant.
  static var formulaOfNumber: ElementFormulaID? { get }
  /// The formula's numbers.
  static func constants(_ attributes: Attributes) -> ElementConstants
  /// Refuses attributes that do not go together; `type` is the input's.
  static func check(_ attributes: Attributes, _ type: DataType) throws(StatusError)
  /// Refuses shapes that `shapeRule` takes.
  static func check(_ tensors: ElementTensors) throws(StatusError)

  /// The results' type.
  static var typeRule: ElementTypeRule { get }
  /// The operands' shapes.
  static var shapeRule: ElementShapeRule { get }
  /// Whether a loss's mean is over the sum of its weights, as torch has it for two of them, and not over the count; both
  /// those and huber_loss want a weight of the input's shape.
  static var weightRule: ElementWeightRule { get }
  /// The shape that an operand is taken to have in place of its own; nil: its own. Refuses one that has none.
  static func reshaped(_ tensors: ElementTensors) throws(StatusError) -> ElementShape?
  /// Whether elements are looked at one by one, by `check` and `extreme`, where a sum or a scale is no number or large.
  static var hasExtremes: Bool { get }
  /// Whether elements are looked at by `check` where a block's sum is NaN.
  static var hasDomain: Bool { get }
  /// Refuses elements outside the function's domain; `index` is the element's, for the text.
  static func check(_ element: ScalarElement, _ index: Int) throws(StatusError)
  /// The results with weight and scale by torch's operations in torch's order, for elements with infinities, NaN or
  /// values that overflow on the way; nil where the order makes no difference.
  static func extreme(_ element: ScalarElement, _ round: Extremes) -> ScalarResults?
}

extension ElementFunction {
  static var constantCount: Int { 0 }
  static var formulaOfNumber: ElementFormulaID? { nil }
  static func integers(_ attributes: Attributes) -> IntegerPieces? { nil }
  static func constants(_ attributes: Attributes) -> ElementConstants {
    let first = places.isLoss ? 1 : 0
    func constant(_ index: Int) -> Double {
      index < constantCount ? attributes.float(first + index) : 0
    }
    return ElementConstants(constant(0), constant(1), constant(2), constant(3))
  }
  static func check(_ attributes: Attributes, _ type: DataType) throws(StatusError) {}
  static func check(_ tensors: ElementTensors) throws(StatusError) {}
  static var typeRule: ElementTypeRule { .alike }
  static var shapeRule: ElementShapeRule { .alike }
  static var weightRule: ElementWeightRule { .broadcast }
  static func reshaped(_ tensors: ElementTensors) -> ElementShape? { nil }
  static var hasExtremes: Bool { false }
  static var hasDomain: Bool { false }
  @inline(__always)
  static func check(_ element: ScalarElement, _ index: Int) throws(StatusError) {}
  @inline(__always)
  static func extreme(_ element: ScalarElement, _ round: Extremes) -> ScalarResults? { nil }
}

/// Of which type the results are.
enum ElementTypeRule {
  /// All operands are of one type, the results' too; float32 for an activation of integers.
  case alike
  /// The target's, whatever the input's.
  case ofTarget
  /// The input's, whatever the target's.
  case ofInput
  /// What torch promotes all operands to; `floats`: float32 where all are integers, which are refused else.
  /// `expandsFirst`: an operand without dimensions counts like any other. `takesFloat`: an input of integers counts as
  /// float32.
  case promoted(floats: Bool, expandsFirst: Bool, takesFloat: Bool = false)
}

/// What shapes the operands may have.
enum ElementShapeRule {
  /// The input's.
  case alike
  /// One that broadcasts to the input's.
  case toInput
  /// Any that broadcast with one another; `sameRank`: of as many dimensions each.
  case full(sameRank: Bool)
}

/// What a loss's weight is.
enum ElementWeightRule {
  /// It broadcasts to the input; a mean is over the count.
  case broadcast
  /// It has the input's shape; a mean is over the count.
  case whole
  /// It has the input's shape; a mean is over the sum of the weights.
  case meanOfWeights
}

/// A shape of an operand's elements that is not the one that was sent.
struct ElementShape {
  var isOfTarget = true
  var rank = 0
  var sizes = InlineArray<64, Int64>(repeating: 1)
}

/// What `plan` tells `run`.
struct ElementState: BitwiseCopyable {
  /// Elements of what the operands broadcast to.
  var count: Int
  var formula: ElementFormulaID
  var constants: ElementConstants
  /// The pass that adds up the weights of a mean, -1: none; the elements' pass; and for each operand the pass that sums
  /// its gradient over its repetitions, -1: none. One that merges these sums follows.
  var weights = -1
  var elements = 0
  var sumsOfInput = -1
  var sumsOfTarget = -1
  var sumsOfParameter = -1
  /// The pass of the weight's gradient, -1: none. It needs the whole loss.
  var slopesOfWeight = -1
  /// An operand is repeated where its gradient is wanted, or larger than the input.
  var isBroadcast = false
}

/// Where inputs and outputs are in a function's declaration; nil: the function has none.
struct ElementPlaces {
  let input = 0
  /// The second operand, and the third.
  let target: Int?
  let parameter: Int?
  let upstream: Int
  let weight: Int?
  let value = 0
  let slope = 1
  let slopeOfTarget: Int?
  let slopeOfParameter: Int?
  var slopeOfWeight: Int? = nil
  let isLoss: Bool

  static var activation: ElementPlaces {
    ElementPlaces(
      target: nil, parameter: nil, upstream: 1, weight: nil, slopeOfTarget: nil,
      slopeOfParameter: nil, isLoss: false)
  }

  static var pairActivation: ElementPlaces {
    ElementPlaces(
      target: 1, parameter: nil, upstream: 2, weight: nil, slopeOfTarget: 2, slopeOfParameter: nil,
      isLoss: false)
  }

  static func loss(
    weight: Int? = nil, parameter: Int? = nil, slopeOfParameter: Int? = nil,
    slopeOfWeight: Int? = nil
  ) -> ElementPlaces {
    ElementPlaces(
      target: 1, parameter: parameter, upstream: 2, weight: weight, slopeOfTarget: 2,
      slopeOfParameter: slopeOfParameter, slopeOfWeight: slopeOfWeight, isLoss: true)
  }
}

/// The tensors of a call by name.
struct ElementTensors {
  let input: TensorView
  var target: TensorView?
  var parameter: TensorView?
  let upstream: TensorView?
  var weight: TensorView?
  /// Of a loss: nil unless there is one an element.
  let values: TensorView?
  let slopes: TensorView?
  let slopesOfTarget: TensorView?
  let slopesOfParameter: TensorView?
  /// nil for an activation.
  let reduction: LossReduction?

  /// nil without an input, which the host has refused. `hasResults`: false while there are none yet.
  @inline(__always)
  init?(_ call: Call, _ places: ElementPlaces, hasResults: Bool = true) {
    guard let input = call.input(places.input) else { return nil }
    self.input = input
    target = call.input(places.target)
    parameter = call.input(places.parameter)
    upstream = call.input(places.upstream)
    weight = call.input(places.weight)
    reduction = places.isLoss ? LossReduction(call.attributes) : nil
    let hasValues = hasResults && (reduction == nil || reduction == .some(.none))
    values = hasValues ? call.output(places.value) : nil
    slopes = hasResults ? call.output(places.slope) : nil
    slopesOfTarget = hasResults ? places.slopeOfTarget.flatMap { call.output($0) } : nil
    slopesOfParameter = hasResults ? places.slopeOfParameter.flatMap { call.output($0) } : nil
  }

  /// Whether the result is a mean or a sum, with one upstream gradient for all elements.
  @inline(__always)
  var isReduced: Bool { reduction != nil && reduction != .some(.none) }

  @inline(__always)
  var hasSlopes: Bool { slopes != nil || slopesOfTarget != nil || slopesOfParameter != nil }

  /// How many tensors of elements are written.
  @inline(__always)
  var resultCount: Int {
    (values == nil ? 0 : 1) + (slopes == nil ? 0 : 1) + (slopesOfTarget == nil ? 0 : 1)
      + (slopesOfParameter == nil ? 0 : 1)
  }

  /// What torch's batchmean divides by.
  var batch: Double { input.rank == 0 ? 1 : Double(input.size(0)) }

  /// What the derivatives at element `index` are multiplied by, apart from the weight.
  @inline(__always)
  func scale(_ index: Int, weightSum: Double) -> Double {
    guard let reduction else { return upstream.map { $0[index] } ?? 1 }
    return reduction.scale(upstream, index, weightSum: weightSum)
  }
}

extension Call {
  @inline(__always)
  func input(_ place: Int?) -> TensorView? {
    if let place { return input(place) }
    return nil
  }

  @inline(__always)
  func wants(_ place: Int?) -> Bool {
    if let place { return wants(place) }
    return false
  }
}

/// One element of each operand, and what its results are multiplied by.
struct ScalarElement {
  var x: Double
  var y = 0.0
  var parameter = 1.0
  var hasParameter = false
  var weight = 1.0
  var scale = 1.0

  @inline(__always)
  func isExtreme(_ extremes: Extremes) -> Bool {
    extremes.contains(x) || extremes.contains(y) || extremes.contains(weight)
      || extremes.contains(parameter) || extremes.contains(scale)
  }
}

/// A value and its derivatives with respect to the input and the target.
struct ScalarResults {
  var value: Double
  var slope: Double
  var slopeOfTarget = 0.0
}

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
  /// The formula's numbers.
  static func constants(_ attributes: Attributes) -> ElementConstants
  /// Refuses attributes that do not go together; `type` is the input's.
  static func check(_ attributes: Attributes, _ type: DataType) throws(StatusError)

  /// Whether a loss's target may be of another type than the input.
  static var targetMayDiffer: Bool { get }
  /// Whether a loss's target broadcasts to the input.
  static var targetBroadcasts: Bool { get }
  /// Whether elements are looked at one by one, by `check` and `extreme`, where a sum or a scale is no number or large.
  static var hasExtremes: Bool { get }
  /// Refuses elements outside the function's domain; `index` is the element's, for the text.
  static func check(_ element: ScalarElement, _ index: Int) throws(StatusError)
  /// The results with weight and scale by torch's operations in torch's order, for elements with infinities, NaN or
  /// values that overflow on the way; nil where the order makes no difference.
  static func extreme(_ element: ScalarElement, _ round: Extremes) -> ScalarResults?
}

extension ElementFunction {
  static var constantCount: Int { 0 }
  static func constants(_ attributes: Attributes) -> ElementConstants {
    let first = places.isLoss ? 1 : 0
    return ElementConstants(
      constantCount > 0 ? attributes.float(first) : 0,
      constantCount > 1 ? attributes.float(first + 1) : 0)
  }
  static func check(_ attributes: Attributes, _ type: DataType) throws(StatusError) {}
  static var targetMayDiffer: Bool { false }
  static var targetBroadcasts: Bool { false }
  static var hasExtremes: Bool { false }
  @inline(__always)
  static func check(_ element: ScalarElement, _ index: Int) throws(StatusError) {}
  @inline(__always)
  static func extreme(_ element: ScalarElement, _ round: Extremes) -> ScalarResults? { nil }
}

/// What `plan` tells `run`.
struct ElementState: BitwiseCopyable {
  var count: Int
  var formula: ElementFormulaID
  var constants: ElementConstants
}

/// Where inputs and outputs are in a function's declaration; nil: the function has none.
struct ElementPlaces {
  let input = 0
  let target: Int?
  let upstream: Int
  let weight: Int?
  /// A further operand that broadcasts to the input, such as `pos_weight`.
  let parameter: Int?
  let value = 0
  let slope = 1
  let slopeOfTarget: Int?

  static var activation: ElementPlaces {
    ElementPlaces(target: nil, upstream: 1, weight: nil, parameter: nil, slopeOfTarget: nil)
  }

  static func loss(weight: Int? = nil, parameter: Int? = nil) -> ElementPlaces {
    ElementPlaces(target: 1, upstream: 2, weight: weight, parameter: parameter, slopeOfTarget: 2)
  }

  var isLoss: Bool { target != nil }
}

/// The tensors of a call by name.
struct ElementTensors {
  let input: TensorView
  let target: TensorView?
  let upstream: TensorView?
  let weight: TensorView?
  let parameter: TensorView?
  /// Of a loss: nil unless there is one an element.
  let values: TensorView?
  let slopes: TensorView?
  let slopesOfTarget: TensorView?
  /// nil for an activation.
  let reduction: Reduction?

  /// nil without an input, which the host has refused. `hasResults`: false while there are none yet.
  @inline(__always)
  init?(_ call: Call, _ places: ElementPlaces, hasResults: Bool = true) {
    guard let input = call.input(places.input) else { return nil }
    self.input = input
    target = call.input(places.target)
    upstream = call.input(places.upstream)
    weight = call.input(places.weight)
    parameter = call.input(places.parameter)
    reduction = places.isLoss ? Reduction(call.attributes) : nil
    let hasValues = hasResults && (reduction == nil || reduction == .some(.none))
    values = hasValues ? call.output(places.value) : nil
    slopes = hasResults ? call.output(places.slope) : nil
    slopesOfTarget = hasResults ? places.slopeOfTarget.flatMap { call.output($0) } : nil
  }

  /// Whether the result is a mean or a sum, with one upstream gradient for all elements.
  @inline(__always)
  var isReduced: Bool { reduction != nil && reduction != .some(.none) }

  @inline(__always)
  var hasSlopes: Bool { slopes != nil || slopesOfTarget != nil }

  /// What the derivatives at element `index` are multiplied by, apart from the weight.
  @inline(__always)
  func scale(_ index: Int) -> Double {
    guard let reduction else { return upstream.map { $0[index] } ?? 1 }
    return reduction.scale(upstream, index, weightSum: Double(input.count))
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

import CLossdPlugin
import LossdTensor

/// A loss of one input element and one target element: its formula and its derivative by the input.
///
/// `loss` and `slope` are called in loops that the compiler turns into vectors, with `T` Float or
/// Double: write straight-line code with the kit's `exp`, `log` and so on, and `a < b ? c : d` in
/// place of branches, and mark both `@inline(__always)`.
///
/// The kit adds the inputs `input`, `target`, `weight` and `grad.loss`, the outputs `loss` and
/// `grad.input`, and the attribute `reduction`. `input` is of any shape; `target` (any type) has
/// the same, or, where `broadcastsTarget`, the two broadcast with one another by torch's rules.
/// `weight` broadcasts to the shape that they have together, and `mean` divides by its number of
/// elements. The loss has the input's type. 16-bit types are computed in float32 and rounded once;
/// sums are float64, those of gradients over repetitions too.
///
/// A loss that is a `DifferentiableTarget` has the output `grad.target` besides.
public protocol ElementwiseLoss: LossDeclaration {
  static var targetHelp: String { get }
  static var broadcastsTarget: Bool { get }

  func loss<T: LossScalar>(_ x: T, _ y: T) -> T
  /// The derivative by `x`.
  func slope<T: LossScalar>(_ x: T, _ y: T) -> T

  // The kit's own: what `DifferentiableTarget` makes of them.
  static var _hasTargetSlope: Bool { get }
  func _slopeOfTarget<T: LossScalar>(_ x: T, _ y: T) -> T
}

/// An elementwise loss with a gradient with respect to the target, too: `grad.target`, of the
/// target's shape and type, which is a floating-point one where it is wanted.
public protocol DifferentiableTarget: ElementwiseLoss {
  /// The derivative by `y`.
  func slopeOfTarget<T: LossScalar>(_ x: T, _ y: T) -> T
}

extension ElementwiseLoss {
  public static var inputHelp: String { "predictions, any shape" }
  public static var targetHelp: String { "targets, like input" }
  public static var broadcastsTarget: Bool { false }
  @inlinable public static var _hasTargetSlope: Bool { false }
  @inlinable @inline(__always)
  public func _slopeOfTarget<T: LossScalar>(_ x: T, _ y: T) -> T { .nan }
}

extension DifferentiableTarget {
  @inlinable public static var _hasTargetSlope: Bool { true }
  @inlinable @inline(__always)
  public func _slopeOfTarget<T: LossScalar>(_ x: T, _ y: T) -> T { slopeOfTarget(x, y) }
}

extension Place {
  @usableFromInline static let targetGradient = 2
}

extension ElementwiseLoss {
  static var declaration: FunctionDeclaration {
    // Where they broadcast with one another, either may be the one that has the rows.
    let batching: InputDeclaration.Batching = broadcastsTarget ? .broadcast : .rows
    var declaration = declaration([
      InputDeclaration(
        "input", floatingTypes, isRequired: true, batching: batching, help: inputHelp),
      InputDeclaration(
        "target", DataType.allCases, isRequired: true, batching: batching, help: targetHelp),
      InputDeclaration(
        "grad.loss", floatingTypes, batching: .upstream, help: "upstream gradient, like loss"),
      InputDeclaration(
        "weight", floatingTypes, isKept: true, batching: .broadcast,
        help: "weight of each element, broadcasts to "
          + (broadcastsTarget ? "what input and target broadcast to" : "input")),
    ])
    if _hasTargetSlope {
      declaration.outputs.append(
        OutputDeclaration("grad.target", hasRows: true, help: "gradient with respect to target"))
    }
    return declaration
  }
}

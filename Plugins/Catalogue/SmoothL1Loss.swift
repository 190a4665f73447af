import LossdKernelTable
import LossdPluginKit
import LossdTensor

/// With d = input - target, d^2 / (2 beta) for |d| < beta, else |d| - beta / 2; torch.nn.functional.smooth_l1_loss.
enum SmoothL1Loss: ElementFunction {
  /// Behind the reduction.
  private static let beta = 1

  static var declaration: FunctionDeclaration {
    .loss(
      "smooth_l1_loss", summary: "(x - y)^2 / (2 beta) below beta, else |x - y| - beta / 2",
      inputHelp: "any shape", targetHelp: "of input's type; broadcasts to input",
      targetBatching: .broadcast,
      attributes: [
        AttributeDeclaration(
          "beta", .float, default: .float(1), minimum: .float(0),
          help: "where the square ends; 0: the absolute difference alone")
      ])
  }
  static var places: ElementPlaces { .loss() }
  static var targetBroadcasts: Bool { true }
  static var referenceCost: Double { 10 }

  static func constant(_ attributes: Attributes) -> Double { attributes.float(beta) }

  /// The kernels need beta's inverse.
  static func formula(_ call: Call) -> ElementFormulaID? {
    let beta = constant(call.attributes)
    return beta == 0 || (1e-30...1e30).contains(beta) ? .smoothL1 : nil
  }

  @inline(__always)
  static func reference(_ element: ScalarElement) -> ScalarResults {
    results(element.x - element.y, element.constant)
  }

  static func extreme(_ element: ScalarElement, _ round: Extremes) -> ScalarResults? {
    var results = results(round(element.x - element.y), element.constant)
    results.slope = round(results.slope * element.scale)
    results.slopeOfTarget = -results.slope
    return results
  }

  @inline(__always)
  private static func results(_ d: Double, _ beta: Double) -> ScalarResults {
    let size = d.magnitude
    // torch's own function for a beta of 0 gives NaN a slope of 0.
    let slope = size < beta ? d / beta : d > 0 ? 1 : d < 0 ? -1 : beta == 0 ? 0 : d
    return ScalarResults(
      value: size < beta ? 0.5 * d * d / beta : size - 0.5 * beta, slope: slope,
      slopeOfTarget: -slope)
  }
}

// focal_loss: torchvision.ops.sigmoid_focal_loss (Lin et al. 2017, "Focal Loss for Dense
// Object Detection"): binary cross entropy of logits, weighed down by (1 - p_t)^gamma where the
// prediction is good already.
import LossdPluginKit

struct FocalLoss: ElementwiseLoss {
  static let name = "focal_loss"
  static let summary = "alpha_t (1 - p_t)^gamma times binary cross entropy of sigmoid(input)"
  static let targetHelp = "0 or 1, or in between, like input"
  static let defaultReduction = LossReduction.none
  static let attributes = [
    AttributeDeclaration(
      "alpha", .float, default: .float(0.25), help: "weight of 1s, 1 - alpha of 0s; below 0: none"),
    AttributeDeclaration(
      "gamma", .float, default: .float(2), minimum: .float(0), help: "exponent of 1 - p_t"),
  ]
  let alpha, gamma: Double

  init(_ attributes: Attributes) {
    alpha = attributes.float(0)
    gamma = attributes.float(1)
  }

  /// The weight alpha_t, the miss 1 - p_t = p (1 - y) + (1 - p) y, p and 1 - p, and the cross
  /// entropy.
  @inline(__always)
  private func parts<T: LossScalar>(_ x: T, _ y: T) -> (a: T, miss: T, p: T, q: T, ce: T) {
    let (p, q) = (sigmoid(x), sigmoid(-x))
    let a = alpha < 0 ? 1 : T(alpha) * y + T(1 - alpha) * (1 - y)
    // (1 - y) x + softplus(-x), without the cancellation of its terms where x < 0.
    let ce = softplus(-abs(x)) + (x < 0 ? -x * y : x * (1 - y))
    return (a, p * (1 - y) + q * y, p, q, ce)
  }

  @inline(__always) func loss<T: LossScalar>(_ x: T, _ y: T) -> T {
    let (a, miss, _, _, ce) = parts(x, y)
    return a * ce * pow(miss, T(gamma))
  }

  @inline(__always) func slope<T: LossScalar>(_ x: T, _ y: T) -> T {
    let (a, miss, p, q, ce) = parts(x, y)
    let power = pow(miss, T(gamma))
    // miss' = p q (1 - 2 y), and ce' = p - y. Where nothing is missed, ce is 0, too.
    let turn = miss > 0 ? T(gamma) * power / miss * p * q * (1 - 2 * y) : 0
    return a * (power * (p * (1 - y) - q * y) + ce * turn)
  }
}

@_cdecl("lossd_plugin_entry")
public func entry(_ host: UnsafeRawPointer?) -> UnsafeRawPointer? {
  plugin(host, name: "focal", version: "1.0", [.elementwise(FocalLoss.self)])
}

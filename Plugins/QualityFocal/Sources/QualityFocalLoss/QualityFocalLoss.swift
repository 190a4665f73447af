// quality_focal_loss: |y - p|^beta times the binary cross entropy of p = sigmoid(x) and a target y
// from 0 to 1, such as how well a predicted box covers the true one. Li et al. (2020),
// "Generalized Focal Loss", arXiv 2006.04388.
//
// reduction=mean, the default, divides by the number of elements. mmdetection's QualityFocalLoss,
// whose default is a mean too, divides by the rows of (N, C) or by a number that it is given: take
// reduction=sum and divide.
import LossdPluginKit

struct QualityFocalLoss: ElementwiseLoss {
  static let name = "quality_focal_loss"
  static let summary = "|target - p|^beta times binary cross entropy of p = sigmoid(input)"
  static let inputHelp = "logits, any shape"
  static let targetHelp = "qualities from 0 to 1, like input"
  static let attributes = [
    AttributeDeclaration(
      "beta", .float, default: .float(2), minimum: .float(0), maximum: .float(1000),
      help: "exponent of |target - p|; 0: plain cross entropy")
  ]
  let beta: Double

  init(_ attributes: Attributes) { beta = attributes.float(0) }

  /// The loss of (x, y) is that of (-x, 1 - y). Of the two, everything is computed of the one whose
  /// logit is -|x|, where p is at most 1/2: its digits are not lost as those of 1 - p would be.
  private struct Parts<T: LossScalar> {
    /// sigmoid(-|x|), and p less the target.
    let p, miss: T
    /// -log(1 - p) + |x| y, the cross entropy: two terms that are not negative.
    let entropy: T

    @inline(__always) init(_ x: T, _ y: T) {
      let target = x < 0 ? y : 1 - y
      p = sigmoid(-abs(x))
      miss = p - target
      // An infinite logit that is right costs nothing.
      entropy = softplus(-abs(x)) + (target == 0 ? 0 : abs(x) * target)
    }
  }

  @inline(__always) func loss<T: LossScalar>(_ x: T, _ y: T) -> T {
    let parts = Parts(x, y)
    let product = pow(abs(parts.miss), T(beta)) * parts.entropy
    // Infinite where the logit is infinite and wrong, also where the power underflows to 0.
    return parts.entropy == T.infinity ? parts.entropy : product
  }

  /// |miss|^beta miss + beta |miss|^(beta - 1) sign(miss) p (1 - p) entropy: terms of one sign. The
  /// second one is 0 where nothing is missed: that is its limit for beta > 1, and a subgradient for
  /// 0 < beta <= 1, where the loss has a kink there, its minimum.
  @inline(__always) func slope<T: LossScalar>(_ x: T, _ y: T) -> T {
    let parts = Parts(x, y)
    let (p, miss) = (parts.p, parts.miss)
    // By the quotient, because |miss|^(beta - 1) overflows with beta < 1. Divided first, so that
    // no product underflows where p and miss are tiny.
    let share = miss == 0 ? 0 : parts.entropy / miss
    // Where p is 0, so is p times an infinite entropy.
    let turn = p == 0 ? 0 : share * p * (1 - p)
    let slope = pow(abs(miss), T(beta)) * (miss + T(beta) * turn)
    return x < 0 ? slope : -slope
  }
}

@_cdecl("lossd_plugin_entry")
public func entry(_ host: UnsafeRawPointer?) -> UnsafeRawPointer? {
  plugin(host, name: "quality_focal", version: "1.0", [.elementwise(QualityFocalLoss.self)])
}

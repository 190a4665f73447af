// kit_binary_loss: binary_cross_entropy_with_logits on the kit, to be measured beside the built-in
// one.
import LossdPluginKit

struct KitBinaryLoss: ElementwiseLoss {
  static let name = "kit_binary_loss"
  static let summary = "binary cross entropy of sigmoid(input)"
  init(_ attributes: Attributes) {}

  @inline(__always) func loss<T: LossScalar>(_ x: T, _ y: T) -> T {
    softplus(-abs(x)) + (x < 0 ? -x * y : x * (1 - y))
  }
  @inline(__always) func slope<T: LossScalar>(_ x: T, _ y: T) -> T { sigmoid(x) - y }
}

@_cdecl("lossd_plugin_entry")
public func entry(_ host: UnsafeRawPointer?) -> UnsafeRawPointer? {
  plugin(host, name: "kit_binary_loss", version: "1.0", [.elementwise(KitBinaryLoss.self)])
}

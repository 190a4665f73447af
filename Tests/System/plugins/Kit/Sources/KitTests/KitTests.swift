// What the tests of LossdPluginKit call: the functions of ../../../wrapper.cpp, in Swift.
import LossdPluginKit
import LossdTensor

struct Squared: ElementwiseLoss {
  static let name = "test_squared"
  static let summary = "(input - target)^2"
  static let broadcastsTarget = true
  init(_ attributes: Attributes) {}
  @inline(__always) func loss<T: LossScalar>(_ x: T, _ y: T) -> T { (x - y) * (x - y) }
  @inline(__always) func slope<T: LossScalar>(_ x: T, _ y: T) -> T { 2 * (x - y) }
}

/// torch.nn.functional.huber_loss, with both gradients; its weight is the kit's.
struct Huber: DifferentiableTarget {
  static let name = "test_huber"
  static let summary = "(x - y)^2 / 2 up to delta, else delta (|x - y| - delta / 2)"
  static let broadcastsTarget = true
  static let attributes = [
    AttributeDeclaration("delta", .float, default: .float(1), minimum: .float(0), help: "the bend")
  ]
  let delta: Double
  init(_ attributes: Attributes) { delta = attributes.float(0) }
  @inline(__always) func loss<T: LossScalar>(_ x: T, _ y: T) -> T {
    let (distance, delta) = (abs(x - y), T(delta))
    return distance < delta ? distance * distance / 2 : delta * (distance - delta / 2)
  }
  @inline(__always) func slope<T: LossScalar>(_ x: T, _ y: T) -> T {
    max(min(x - y, T(delta)), -T(delta))
  }
  @inline(__always) func slopeOfTarget<T: LossScalar>(_ x: T, _ y: T) -> T { -slope(x, y) }
}

/// Poisson's, whose derivatives are no mirror images: exp(x) - y x.
struct Alike: DifferentiableTarget {
  static let name = "test_alike"
  static let summary = "exp(input) - target * input, of equal shapes"
  init(_ attributes: Attributes) {}
  @inline(__always) func loss<T: LossScalar>(_ x: T, _ y: T) -> T { exp(x) - y * x }
  @inline(__always) func slope<T: LossScalar>(_ x: T, _ y: T) -> T { exp(x) - y }
  @inline(__always) func slopeOfTarget<T: LossScalar>(_ x: T, _ y: T) -> T { -x }
}

struct AttributesOfAllKinds: ElementwiseLoss {
  static let name = "test_attributes"
  static let summary = "a polynomial of its attributes, for input 0"
  static let defaultReduction = LossReduction.sum
  static let attributes = [
    AttributeDeclaration(
      "factor", .float, default: .float(0.5), minimum: .float(0), maximum: .float(4),
      help: "between 0 and 4"),
    AttributeDeclaration("count", .int, default: .int(-3), help: "any"),
    AttributeDeclaration("negate", .bool, default: .bool(false), help: "or not"),
    AttributeDeclaration(
      "way", .string, default: .string("up"), choices: ["up", "down"], help: "adds or takes 1000"),
  ]
  let value: Double

  init(_ attributes: Attributes) {
    let number = attributes.float(0) + 10 * Double(attributes.int(1))
    value =
      (attributes.bool(2) ? -number : number) + (attributes.string(3, equals: "up") ? 1000 : -1000)
  }
  @inline(__always) func loss<T: LossScalar>(_ x: T, _ y: T) -> T { x * y + T(value) }
  @inline(__always) func slope<T: LossScalar>(_ x: T, _ y: T) -> T { y }
}

/// torch.nn.functional.multi_margin_loss with p = 1 and margin 1.
struct MultiMargin: ClassLoss {
  static let name = "test_multi_margin"
  static let summary = "mean of max(0, 1 - x[target] + x[j]) over the other classes"
  init(_ attributes: Attributes) {}
  func loss<T: LossScalar>(_ x: Row<T>, _ target: Int) -> Double {
    let edge = 1 - x[target]
    return (x.sum { max(edge + $0, 0) } - 1) / Double(x.count)
  }
  func slope<T: LossScalar>(_ x: Row<T>, _ target: Int, _ slopes: MutableRow<T>) {
    let (edge, part) = (1 - x[target], 1 / T(x.count))
    slopes.set(from: x) { edge + $0 > 0 ? part : 0 }
    slopes[target] = 0
    let others = Row(slopes).sum { $0 }
    slopes[target] = -T(others)
  }
}

/// cross_entropy of class indices.
struct ClassEntropy: ClassLoss {
  static let name = "test_class_entropy"
  static let summary = "-log_softmax(input)[target]"
  init(_ attributes: Attributes) {}
  func loss<T: LossScalar>(_ x: Row<T>, _ target: Int) -> Double {
    let most = x.max()
    return log(x.sum { exp($0 - most) }) - (x[target] - most).double
  }
  func slope<T: LossScalar>(_ x: Row<T>, _ target: Int, _ slopes: MutableRow<T>) {
    let most = x.max()
    let part = T(1 / x.sum { exp($0 - most) })
    slopes.set(from: x) { exp($0 - most) * part }
    slopes[target] = slopes[target] - 1
  }
}

/// cross_entropy of class probabilities.
struct SoftTarget: RowPairLoss {
  static let name = "test_soft_target"
  static let summary = "-sum(target * log_softmax(input))"
  init(_ attributes: Attributes) {}
  func loss<T: LossScalar>(_ x: Row<T>, _ y: Row<T>) -> Double {
    let most = x.max()
    let logarithm = log(x.sum { exp($0 - most) })
    var sum = 0.0
    for index in 0..<x.count { sum -= y[index].double * ((x[index] - most).double - logarithm) }
    return sum
  }
  func slope<T: LossScalar>(_ x: Row<T>, _ y: Row<T>, _ slopes: MutableRow<T>) {
    let most = x.max()
    let scale = T(y.sum { $0 } / x.sum { exp($0 - most) })
    slopes.set(from: x, y) { exp($0 - most) * scale - $1 }
  }
}

struct Throws: ElementwiseLoss {
  static let name = "test_throws"
  static let summary = "throws"
  static let attributes = [
    AttributeDeclaration(
      "mode", .string, default: .string("failure"), choices: ["failure"], help: "what"),
    AttributeDeclaration("early", .bool, default: .bool(true), help: "in plan"),
  ]
  init(_ attributes: Attributes) throws(StatusError) {
    throw StatusError(.failedPrecondition, "no licence was found")
  }
  @inline(__always) func loss<T: LossScalar>(_ x: T, _ y: T) -> T { x }
  @inline(__always) func slope<T: LossScalar>(_ x: T, _ y: T) -> T { 1 }
}

@_cdecl("lossd_plugin_entry")
public func entry(_ host: UnsafeRawPointer?) -> UnsafeRawPointer? {
  plugin(
    host, name: "test_wrapper", version: "1.0",
    [
      .elementwise(Squared.self), .elementwise(Huber.self), .elementwise(Alike.self),
      .elementwise(AttributesOfAllKinds.self), .rowwise(MultiMargin.self),
      .rowwise(ClassEntropy.self), .rowwise(SoftTarget.self), .elementwise(Throws.self),
    ])
}

import CLossdPlugin
import LossdTensor

/// What every loss of the kit says about itself. It is a plain value, copied as bytes.
public protocol LossDeclaration: BitwiseCopyable {
  /// [a-z][a-z0-9_.]*, torch.nn.functional's name where torch has the function.
  static var name: String { get }
  /// One line.
  static var summary: String { get }
  /// Its own attributes, none by default; `reduction` comes after them by itself.
  static var attributes: [AttributeDeclaration] { get }
  static var inputHelp: String { get }
  static var defaultReduction: LossReduction { get }
  /// Roughly what an element costs, nanoseconds.
  static var cost: Double { get }

  /// With a call's attributes, by their place in `attributes`. Throws what the client is to read.
  init(_ attributes: Attributes) throws(StatusError)
}

extension LossDeclaration {
  public static var attributes: [AttributeDeclaration] { [] }
  public static var defaultReduction: LossReduction { .mean }
  public static var cost: Double { 3 }
}

/// Where inputs and outputs stand in the kit's declarations.
@usableFromInline enum Place {
  @usableFromInline static let (input, target, upstream, weight) = (0, 1, 2, 3)
  @usableFromInline static let (loss, gradient) = (0, 1)
}

let floatingTypes: [DataType] = [.float32, .float64, .float16, .bfloat16]

extension LossDeclaration {
  static func declaration(_ inputs: [InputDeclaration]) -> FunctionDeclaration {
    FunctionDeclaration(
      name: name, kind: .loss, summary: summary, inputs: inputs,
      outputs: [
        OutputDeclaration(
          "loss", isDefault: true, hasRows: true,
          help: "scalar, or one an element or row for reduction=none"),
        OutputDeclaration("grad.input", hasRows: true, help: "gradient with respect to input"),
      ],
      attributes: attributes + [LossReduction.attribute(defaultReduction)],
      accumulators: LossReduction.accumulators, values: LossReduction.values)
  }

  /// Outputs, rows and the upstream gradient's check; `shape` is the loss's for reduction=none.
  @usableFromInline static func plan(
    _ call: Call, _ plan: Plan, _ reduction: LossReduction, _ input: TensorView,
    lossShape: UnsafeBufferPointer<Int64>
  ) throws(StatusError) {
    let shape = reduction == .none ? lossShape : UnsafeBufferPointer(start: nil, count: 0)
    if let upstream = call.input(Place.upstream) {
      // One for all is never rounded: batches of a mean get theirs over the sum of all weights.
      let isWide = reduction != .none && upstream.dataType == .float64
      guard upstream.shape.elementsEqual(shape), upstream.dataType == input.dataType || isWide
      else {
        throw StatusError(
          .invalidArgument,
          "grad.loss is \(upstream.description), expected \(input.dataType) \(shapeText(shape))")
      }
    }
    if call.wants(Place.loss) {
      if reduction == .none {
        plan.setOutput(Place.loss, input.dataType, shape: shape)
      } else {
        plan.setReducedOutput(Place.loss, input.dataType)
      }
    }
    if call.wants(Place.gradient) {
      plan.setOutput(Place.gradient, input.dataType, shape: input.shape)
    }
  }
}

@usableFromInline func wrongShape(
  _ name: String, _ tensor: TensorView, _ expected: some Collection<Int64>
) -> StatusError {
  StatusError(
    .invalidArgument, "\(name) is \(shapeText(tensor.shape)), expected \(shapeText(expected))")
}

// LossdPluginKit: plugin.h with a Swift face, for authors of functions. A function is a type that
// conforms to `Function`; a plugin is a list of them. Nothing Swift crosses plugin.h: the kit turns
// declarations into C structs and Swift methods into C callbacks.
import CLossdPlugin
import LossdTensor

/// What a function is called, takes and gives. Names are torch.nn.functional's where torch has
/// them.
public struct FunctionDeclaration: Sendable {
  public enum Kind: Sendable { case activation, loss }

  public var name: String
  public var kind: Kind
  public var summary: String
  public var inputs: [InputDeclaration]
  public var outputs: [OutputDeclaration]
  public var attributes: [AttributeDeclaration]
  /// What chunks, batches and machines add up.
  public var accumulators: [AccumulatorDeclaration]
  /// Names of what `finish` computes from the sums, `loss` first.
  public var values: [String]

  public init(
    name: String, kind: Kind, summary: String, inputs: [InputDeclaration],
    outputs: [OutputDeclaration], attributes: [AttributeDeclaration],
    accumulators: [AccumulatorDeclaration] = [], values: [String] = []
  ) {
    self.name = name
    self.kind = kind
    self.summary = summary
    self.inputs = inputs
    self.outputs = outputs
    self.attributes = attributes
    self.accumulators = accumulators
    self.values = values
  }
}

/// plugin.h's accumulator. A text alone is the name of a plain one.
public struct AccumulatorDeclaration: Sendable, ExpressibleByStringLiteral {
  /// plugin.h's LOSSD_PLAIN and LOSSD_SUM.
  public enum Kind: UInt32, Sendable { case plain, sum }

  public var name: String
  public var kind: Kind

  public init(_ name: String, _ kind: Kind) {
    self.name = name
    self.kind = kind
  }

  public init(stringLiteral name: String) { self.init(name, .plain) }
}

public struct InputDeclaration: Sendable {
  public var name: String
  public var help: String
  public var dataTypes: [DataType]
  public var isRequired: Bool
  /// Sent once in a stream, stays until replaced.
  public var isKept: Bool
  /// How it is cut into batches of rows; nil: it goes whole with each.
  public var batching: Batching?
  /// plugin.h's LOSSD_INPUT_CLASSES: with one dimension it is a single row, so that nothing is cut.
  public var isClasses: Bool

  /// How an input is cut when a data set is evaluated in batches: plugin.h's LOSSD_INPUT_ROWS,
  /// _BROADCAST, _UPSTREAM.
  public enum Batching: Sendable { case rows, broadcast, upstream }

  public init(
    _ name: String, _ dataTypes: [DataType], isRequired: Bool = false, isKept: Bool = false,
    batching: Batching? = nil, isClasses: Bool = false, help: String
  ) {
    self.name = name
    self.help = help
    self.dataTypes = dataTypes
    self.isRequired = isRequired
    self.isKept = isKept
    self.batching = batching
    self.isClasses = isClasses
  }
}

public struct OutputDeclaration: Sendable {
  public var name: String
  public var help: String
  public var isDefault: Bool
  /// Known by name and refused; `help` says why.
  public var isUnimplemented: Bool
  /// plugin.h's LOSSD_OUTPUT_ROWS.
  public var hasRows: Bool
  /// plugin.h's `may_overwrite`.
  public var mayOverwrite: Int?

  public init(
    _ name: String, isDefault: Bool = false, isUnimplemented: Bool = false,
    hasRows: Bool = false, mayOverwrite: Int? = nil, help: String
  ) {
    self.name = name
    self.help = help
    self.isDefault = isDefault
    self.isUnimplemented = isUnimplemented
    self.hasRows = hasRows
    self.mayOverwrite = mayOverwrite
  }
}

public struct AttributeDeclaration: Sendable {
  public enum Kind: UInt32, Sendable {
    case bool = 1
    case int = 2
    case float = 3
    case string = 4
  }

  public var name: String
  public var help: String
  public var kind: Kind
  public var isRequired: Bool
  public var defaultValue: AttributeValue?
  public var minimum: AttributeValue?
  public var maximum: AttributeValue?
  public var choices: [String]
  public var role: Role?

  /// What it means for batches: plugin.h's LOSSD_ATTRIBUTE_DIMENSION and LOSSD_ATTRIBUTE_REDUCTION.
  public enum Role: Sendable { case dimension, reduction }

  public init(
    _ name: String, _ kind: Kind, isRequired: Bool = false, default defaultValue: AttributeValue?,
    minimum: AttributeValue? = nil, maximum: AttributeValue? = nil, choices: [String] = [],
    role: Role? = nil, help: String
  ) {
    self.name = name
    self.help = help
    self.kind = kind
    self.isRequired = isRequired
    self.defaultValue = defaultValue
    self.minimum = minimum
    self.maximum = maximum
    self.choices = choices
    self.role = role
  }
}

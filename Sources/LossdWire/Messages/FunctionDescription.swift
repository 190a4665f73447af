import CLossdProto
import LossdTensor

/// What ListFunctions says of one function.
public struct FunctionDescription: Sendable, Equatable {
  public struct Input: Sendable, Equatable {
    public var name: String
    public var help: String
    /// Types that it takes; ones this side does not know are left out.
    public var dataTypes: [DataType]
    public var isRequired: Bool
    /// Stays from request to request of a stream.
    public var isKept: Bool
    /// How it is cut into batches of rows.
    public var batching: Batching
    /// With one dimension it is a single row, so that nothing is cut.
    public var isClasses: Bool

    public init(
      name: String, help: String = "", dataTypes: [DataType] = [], isRequired: Bool = false,
      isKept: Bool = false, batching: Batching = .whole, isClasses: Bool = false
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

  /// How an input is cut when a data set goes in batches of rows; plugin.h says more.
  public enum Batching: String, Sendable {
    /// It goes whole with each batch, or stays where it is kept.
    case whole = ""
    /// Its dimension 0 is the rows.
    case rows
    /// It is cut where it has the rank of those that have rows and its dimension 0 is not 1.
    case broadcast
    /// It is cut unless it is a scalar.
    case upstream
  }

  public struct Output: Sendable, Equatable {
    public var name: String
    public var help: String
    /// What a request that names no output gets.
    public var isDefault: Bool
    /// It has rows as the inputs have, or is a scalar that a Summary has. Others are not had in
    /// batches.
    public var hasRows: Bool

    public init(
      name: String, help: String = "", isDefault: Bool = false, hasRows: Bool = false
    ) {
      self.name = name
      self.help = help
      self.isDefault = isDefault
      self.hasRows = hasRows
    }
  }

  public struct Attribute: Sendable, Equatable {
    public var name: String
    public var help: String
    /// `bool`, `int`, `float` or `string`.
    public var type: String
    public var isRequired: Bool
    public var defaultValue: AttributeValue?
    public var minimum: AttributeValue?
    public var maximum: AttributeValue?
    public var choices: [String]
    /// `dimension`: the one of the first input that is computed along. `reduction`: none, mean or
    /// sum, where mean is loss_sum over weight_sum. Empty: neither.
    public var role: String

    public init(
      name: String, help: String = "", type: String, isRequired: Bool = false,
      defaultValue: AttributeValue? = nil, minimum: AttributeValue? = nil,
      maximum: AttributeValue? = nil, choices: [String] = [], role: String = ""
    ) {
      self.name = name
      self.help = help
      self.type = type
      self.isRequired = isRequired
      self.defaultValue = defaultValue
      self.minimum = minimum
      self.maximum = maximum
      self.choices = choices
      self.role = role
    }
  }

  public var name: String
  /// `activation` or `loss`.
  public var kind: String
  public var summary: String
  public var inputs: [Input]
  public var outputs: [Output]
  public var attributes: [Attribute]
  /// The plugin it comes from.
  public var plugin: String
  /// That plugin's version.
  public var version: String
  /// Whether what it adds up has the same bits however the data was cut.
  public var isOrderFree: Bool

  public init(
    name: String, kind: String, summary: String = "", inputs: [Input] = [],
    outputs: [Output] = [], attributes: [Attribute] = [], plugin: String = "",
    version: String = "", isOrderFree: Bool = false
  ) {
    self.name = name
    self.kind = kind
    self.summary = summary
    self.inputs = inputs
    self.outputs = outputs
    self.attributes = attributes
    self.plugin = plugin
    self.version = version
    self.isOrderFree = isOrderFree
  }
}

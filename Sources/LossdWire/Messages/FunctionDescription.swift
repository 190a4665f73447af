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

    public init(
      name: String, help: String = "", dataTypes: [DataType] = [], isRequired: Bool = false,
      isKept: Bool = false
    ) {
      self.name = name
      self.help = help
      self.dataTypes = dataTypes
      self.isRequired = isRequired
      self.isKept = isKept
    }
  }

  public struct Output: Sendable, Equatable {
    public var name: String
    public var help: String
    /// What a request that names no output gets.
    public var isDefault: Bool

    public init(name: String, help: String = "", isDefault: Bool = false) {
      self.name = name
      self.help = help
      self.isDefault = isDefault
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

    public init(
      name: String, help: String = "", type: String, isRequired: Bool = false,
      defaultValue: AttributeValue? = nil, minimum: AttributeValue? = nil,
      maximum: AttributeValue? = nil, choices: [String] = []
    ) {
      self.name = name
      self.help = help
      self.type = type
      self.isRequired = isRequired
      self.defaultValue = defaultValue
      self.minimum = minimum
      self.maximum = maximum
      self.choices = choices
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

  public init(
    name: String, kind: String, summary: String = "", inputs: [Input] = [],
    outputs: [Output] = [], attributes: [Attribute] = [], plugin: String = "",
    version: String = ""
  ) {
    self.name = name
    self.kind = kind
    self.summary = summary
    self.inputs = inputs
    self.outputs = outputs
    self.attributes = attributes
    self.plugin = plugin
    self.version = version
  }
}

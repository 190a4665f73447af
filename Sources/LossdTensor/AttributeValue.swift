/// An attribute's value that owns its text: of clients, declarations and descriptions.
public enum AttributeValue: Sendable, Equatable {
  case bool(Bool)
  case int(Int64)
  case float(Double)
  case string(String)

  /// nil where there is no value.
  public init?(_ argument: AttributeArgument) {
    switch argument {
    case .none: return nil
    case .bool(let value): self = .bool(value)
    case .int(let value): self = .int(value)
    case .float(let value): self = .float(value)
    case .string(let bytes): self = .string(String(decoding: bytes, as: UTF8.self))
    }
  }
}

/// An attribute's value as a request brings it: its text, UTF-8, is the request's memory.
public enum AttributeArgument {
  /// The request has the attribute's name and no value.
  case none
  case bool(Bool)
  case int(Int64)
  case float(Double)
  case string(UnsafeRawBufferPointer)
}

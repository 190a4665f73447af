import CLossdProto
import LossdTensor

/// An attribute's value: a view, valid until the message's arena is reset.
public enum ValueMessage {
  /// No kind is set.
  case none
  case bool(Bool)
  case int(Int64)
  case float(Double)
  /// UTF-8.
  case string(UnsafeRawBufferPointer)

  init(_ raw: UnsafePointer<Lossd__V1__Value>?) {
    guard let raw else {
      self = .none
      return
    }
    switch raw.pointee.kind_case {
    case LOSSD__V1__VALUE__KIND_BOOL_VALUE: self = .bool(raw.pointee.bool_value != 0)
    case LOSSD__V1__VALUE__KIND_INT_VALUE: self = .int(raw.pointee.int_value)
    case LOSSD__V1__VALUE__KIND_FLOAT_VALUE: self = .float(raw.pointee.float_value)
    case LOSSD__V1__VALUE__KIND_STRING_VALUE: self = .string(textBytes(raw.pointee.string_value))
    default: self = .none
    }
  }
}

/// An attribute's value that owns its text: for clients and descriptions.
public enum AttributeValue: Sendable, Equatable {
  case bool(Bool)
  case int(Int64)
  case float(Double)
  case string(String)

  /// nil when no kind is set.
  public init?(_ message: ValueMessage) {
    switch message {
    case .none: return nil
    case .bool(let value): self = .bool(value)
    case .int(let value): self = .int(value)
    case .float(let value): self = .float(value)
    case .string(let bytes): self = .string(String(decoding: bytes, as: UTF8.self))
    }
  }

  func build(_ arena: MessageArena) -> UnsafeMutablePointer<Lossd__V1__Value> {
    let raw = arena.make(lossd__v1__value__init)
    switch self {
    case .bool(let value):
      raw.pointee.kind_case = LOSSD__V1__VALUE__KIND_BOOL_VALUE
      raw.pointee.bool_value = value ? 1 : 0
    case .int(let value):
      raw.pointee.kind_case = LOSSD__V1__VALUE__KIND_INT_VALUE
      raw.pointee.int_value = value
    case .float(let value):
      raw.pointee.kind_case = LOSSD__V1__VALUE__KIND_FLOAT_VALUE
      raw.pointee.float_value = value
    case .string(let value):
      raw.pointee.kind_case = LOSSD__V1__VALUE__KIND_STRING_VALUE
      raw.pointee.string_value = arena.text(value)
    }
    return raw
  }
}

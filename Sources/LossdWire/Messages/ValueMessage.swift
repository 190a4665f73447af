import CLossdProto
import LossdTensor

extension AttributeArgument {
  /// Valid until the message's arena is reset.
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

extension AttributeValue {
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

import CLossdProto
import CProtobufC
import LossdTensor

/// A walk over a message's bytes before protobuf-c unpacks them, for what it does not check:
/// strings that are not UTF-8 or have a NUL inside (its C strings would be cut there), field number
/// 0, a bool of another wire type. It also says precisely what is wrong with bytes that are no
/// message.
///
/// Costs a few nanoseconds a field and touches no byte of a `bytes` field. Depth is the schema's
/// own, which does not recurse; the limit is there for the day when it does.
struct WireScan {
  private static let maxDepth = 16

  private let bytes: UnsafeRawBufferPointer
  private let fieldsMax: Int
  private var fields = 0

  private init(_ bytes: UnsafeRawBufferPointer, fieldsMax: Int) {
    self.bytes = bytes
    self.fieldsMax = fieldsMax
  }

  /// Returns how many fields the message has, elements of packed ones included. Throws
  /// INVALID_ARGUMENT when `bytes` are no message of `descriptor`'s type, RESOURCE_EXHAUSTED for
  /// more than `fieldsMax` fields.
  static func check(
    _ bytes: UnsafeRawBufferPointer, _ descriptor: UnsafePointer<ProtobufCMessageDescriptor>,
    fieldsMax: Int = .max
  ) throws(StatusError) -> Int {
    var scan = WireScan(bytes, fieldsMax: fieldsMax)
    try scan.message(descriptor, 0..<bytes.count, depth: 0)
    return scan.fields
  }

  private mutating func count(
    _ more: Int, _ descriptor: UnsafePointer<ProtobufCMessageDescriptor>
  ) throws(StatusError) {
    fields += more
    if fields > fieldsMax {
      throw StatusError(
        .resourceExhausted,
        "\(textString(descriptor.pointee.short_name)): the message has over \(fieldsMax) fields")
    }
  }

  private mutating func message(
    _ descriptor: UnsafePointer<ProtobufCMessageDescriptor>, _ range: Range<Int>, depth: Int
  ) throws(StatusError) {
    var index = range.lowerBound
    while index < range.upperBound {
      let start = index
      guard let tag = varint(&index, range.upperBound), tag <= UInt32.max, tag >> 3 != 0 else {
        throw failure(descriptor, "no field number at byte \(start)")
      }
      let number = UInt32(truncatingIfNeeded: tag >> 3)
      let wireType = UInt8(tag & 7)
      guard let value = skip(wireType, &index, range.upperBound) else {
        throw failure(
          descriptor, "field \(number) at byte \(start) has wire type \(wireType) or is cut short")
      }
      guard let field = protobuf_c_message_descriptor_get_field(descriptor, number) else {
        try count(1, descriptor)
        continue
      }
      try known(field, descriptor, wireType, value, depth)
    }
  }

  private mutating func known(
    _ field: UnsafePointer<ProtobufCFieldDescriptor>,
    _ descriptor: UnsafePointer<ProtobufCMessageDescriptor>, _ wireType: UInt8,
    _ value: Range<Int>, _ depth: Int
  ) throws(StatusError) {
    let type = field.pointee.type
    let isList = field.pointee.label == PROTOBUF_C_LABEL_REPEATED
    let isPacked = isList && wireType == 2
    switch type {
    case PROTOBUF_C_TYPE_STRING, PROTOBUF_C_TYPE_BYTES, PROTOBUF_C_TYPE_MESSAGE:
      if wireType != 2 { throw wrongWireType(field, descriptor, wireType) }
    case PROTOBUF_C_TYPE_DOUBLE, PROTOBUF_C_TYPE_FIXED64, PROTOBUF_C_TYPE_SFIXED64:
      if wireType != 1 && !isPacked { throw wrongWireType(field, descriptor, wireType) }
    case PROTOBUF_C_TYPE_FLOAT, PROTOBUF_C_TYPE_FIXED32, PROTOBUF_C_TYPE_SFIXED32:
      if wireType != 5 && !isPacked { throw wrongWireType(field, descriptor, wireType) }
    default:
      if wireType != 0 && !isPacked { throw wrongWireType(field, descriptor, wireType) }
    }
    try count(isPacked ? elements(type, value) : 1, descriptor)
    if type == PROTOBUF_C_TYPE_STRING {
      try text(field, descriptor, UnsafeRawBufferPointer(rebasing: bytes[value]))
    } else if type == PROTOBUF_C_TYPE_MESSAGE {
      guard depth < WireScan.maxDepth, let nested = field.pointee.descriptor else {
        throw failure(descriptor, "messages lie over \(WireScan.maxDepth) deep")
      }
      try message(
        nested.assumingMemoryBound(to: ProtobufCMessageDescriptor.self), value, depth: depth + 1)
    }
  }

  /// Of a packed field: of varints, bytes that end one.
  private func elements(_ type: ProtobufCType, _ value: Range<Int>) -> Int {
    switch type {
    case PROTOBUF_C_TYPE_STRING, PROTOBUF_C_TYPE_BYTES, PROTOBUF_C_TYPE_MESSAGE: return 1
    case PROTOBUF_C_TYPE_DOUBLE, PROTOBUF_C_TYPE_FIXED64, PROTOBUF_C_TYPE_SFIXED64:
      return value.count / 8
    case PROTOBUF_C_TYPE_FLOAT, PROTOBUF_C_TYPE_FIXED32, PROTOBUF_C_TYPE_SFIXED32:
      return value.count / 4
    default:
      var ends = 0
      for index in value where bytes[index] < 0x80 { ends += 1 }
      return ends
    }
  }

  private func text(
    _ field: UnsafePointer<ProtobufCFieldDescriptor>,
    _ descriptor: UnsafePointer<ProtobufCMessageDescriptor>, _ value: UnsafeRawBufferPointer
  ) throws(StatusError) {
    switch textProblem(value) {
    case nil: return
    case .notUTF8: throw failure(descriptor, "\(textString(field.pointee.name)) is not UTF-8")
    case .containsNUL:
      throw failure(descriptor, "\(textString(field.pointee.name)) contains a NUL")
    }
  }

  /// Moves past a field's value; returns its bytes (without a length prefix), nil when it does not
  /// fit or is a group, which proto3 does not have.
  private func skip(_ wireType: UInt8, _ index: inout Int, _ end: Int) -> Range<Int>? {
    let start = index
    switch wireType {
    case 0: return varint(&index, end) == nil ? nil : start..<index
    case 1: index += 8
    case 2:
      guard let length = varint(&index, end), length <= UInt64(end - index) else { return nil }
      let first = index
      index += Int(length)
      return first..<index
    case 5: index += 4
    default: return nil
    }
    return index <= end ? start..<index : nil
  }

  private func varint(_ index: inout Int, _ end: Int) -> UInt64? {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while index < end && shift < 70 {
      let byte = bytes[index]
      index += 1
      value |= UInt64(byte & 0x7F) << shift
      if byte & 0x80 == 0 { return value }
      shift += 7
    }
    return nil
  }

  private func wrongWireType(
    _ field: UnsafePointer<ProtobufCFieldDescriptor>,
    _ descriptor: UnsafePointer<ProtobufCMessageDescriptor>, _ wireType: UInt8
  ) -> StatusError {
    failure(descriptor, "\(textString(field.pointee.name)) has wire type \(wireType)")
  }

  private func failure(
    _ descriptor: UnsafePointer<ProtobufCMessageDescriptor>, _ what: String
  ) -> StatusError {
    let name = textString(descriptor.pointee.short_name)
    return StatusError(.invalidArgument, "the message does not decode: \(name): \(what)")
  }
}

import LossdTensor

/// What a .npy file says about its one array.
/// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
struct NPYHeader: Equatable {
  static let magic: [UInt8] = [0x93] + Array("NUMPY".utf8)

  var dataType: DataType
  var shape: [Int]
  var order = ElementOrder.native

  /// numpy's name of an element type. bfloat16 has none; ml_dtypes saves it as two raw bytes.
  static func descriptor(_ dataType: DataType) -> String {
    switch dataType {
    case .float32: "<f4"
    case .float64: "<f8"
    case .float16: "<f2"
    case .bfloat16: "<V2"
    case .int64: "<i8"
    case .int32: "<i4"
    case .int16: "<i2"
    case .int8: "|i1"
    case .uint8: "|u1"
    case .bool: "|b1"
    }
  }

  /// The element type of numpy's name for it, and whether its bytes are in the other order. As in
  /// numpy a name may begin with an order ('<', '>', '=' or '|', which means nothing for types of
  /// one byte), and '?' is a bool.
  static func dataType(
    _ descriptor: String
  ) throws(HeaderFlaw) -> (type: DataType, isBigEndian: Bool) {
    if descriptor == "bfloat16" || descriptor == "|V2" { return (.bfloat16, false) }
    let sign = descriptor.first.flatMap { "<>=|".contains($0) ? $0 : nil }
    var name = sign == nil ? Substring(descriptor) : descriptor.dropFirst()
    if name == "?" { name = "b1" }
    for type in DataType.allCases where NPYHeader.descriptor(type).dropFirst() == name {
      // ml_dtypes' raw bytes have no order that could be another one.
      if type == .bfloat16 && sign != "<" { break }
      return (type, sign == ">" && type.byteSize > 1)
    }
    let expected = DataType.allCases.map { "'\(NPYHeader.descriptor($0))'" }
    let list = expected.joined(separator: ", ")
    let found = quoted(descriptor)
    if name.hasPrefix("O") {
      throw HeaderFlaw(
        .unsupported, "its elements are Python objects (\(found)), expected one of \(list)")
    }
    throw HeaderFlaw(.unsupported, "its elements are of type \(found), expected one of \(list)")
  }

  /// The bytes before the elements, as numpy writes them: version 1.0, a multiple of 64 bytes, of a
  /// length that does not depend on the first dimension, so that it can be patched later.
  var encoded: [UInt8] {
    var sizes = shape.map { String($0) }.joined(separator: ", ")
    if shape.count == 1 { sizes += "," }
    var text = "{'descr': '\(NPYHeader.descriptor(dataType))', 'fortran_order': False, "
    text += "'shape': (\(sizes)), }"
    // numpy's room for growth: 21 digits in all.
    if let rows = shape.first {
      text += String(repeating: " ", count: max(21 - String(rows).count, 0))
    }
    let preamble = NPYHeader.magic.count + 4
    text += String(repeating: " ", count: 64 - (preamble + text.utf8.count + 1) % 64) + "\n"
    let length = text.utf8.count
    precondition(length <= 0xFFFF, "64 dimensions of 20 digits take 1,408 bytes")
    return NPYHeader.magic + [1, 0, UInt8(length & 0xFF), UInt8(length >> 8)] + Array(text.utf8)
  }
}

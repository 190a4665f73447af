/// Reads the JSON of a .safetensors header: exactly the objects of the format, no other JSON, so
/// that nothing nests without end. A name that comes twice is refused.
struct SafetensorsParser {
  /// A longer name is refused: Swift's own comparison of texts takes the square of the length for
  /// some.
  static let nameBytesMax = 4096

  private var scanner: HeaderScanner

  init(scanner: HeaderScanner) { self.scanner = scanner }

  mutating func header() throws(HeaderFlaw) -> SafetensorsHeader {
    var header = SafetensorsHeader()
    var names: Set<String> = []
    try object { (parser, name) throws(HeaderFlaw) in
      guard names.insert(name).inserted else {
        throw HeaderFlaw(.malformed, "its header has the key \(quoted(name)) twice")
      }
      if name == "__metadata__" {
        header.metadata = try parser.metadata()
      } else {
        header.tensors.append(try parser.tensor(name))
      }
    }
    scanner.skipSpace()
    if !scanner.isAtEnd { throw scanner.unexpected("the header's end") }
    return header
  }

  /// Calls `member` for each key of an object, at its value.
  private mutating func object(
    _ member: (inout SafetensorsParser, String) throws(HeaderFlaw) -> Void
  ) throws(HeaderFlaw) {
    try scanner.expect("{")
    if scanner.skip("}") { return }
    repeat {
      let key = try string("a key")
      guard key.utf8.count <= SafetensorsParser.nameBytesMax else {
        throw HeaderFlaw(
          .unsupported,
          "its header has a name of \(key.utf8.count) bytes, the most are "
            + "\(SafetensorsParser.nameBytesMax)")
      }
      try scanner.expect(":")
      try member(&self, key)
    } while scanner.skip(",")
    try scanner.expect("}")
  }

  private mutating func metadata() throws(HeaderFlaw) -> [String: String] {
    var metadata: [String: String] = [:]
    try object { (parser, key) throws(HeaderFlaw) in
      let value = try parser.string("a value of __metadata__")
      if metadata.updateValue(value, forKey: key) != nil {
        throw HeaderFlaw(.malformed, "its __metadata__ has the key \(quoted(key)) twice")
      }
    }
    return metadata
  }

  private mutating func tensor(_ name: String) throws(HeaderFlaw) -> SafetensorsHeader.Tensor {
    var storedType: String?
    var shape: [Int]?
    var offsets: [Int]?
    try object { (parser, key) throws(HeaderFlaw) in
      switch key {
      case "dtype" where storedType == nil: storedType = try parser.string("the type")
      case "shape" where shape == nil:
        shape = try parser.integers("size", countMax: SafetensorsHeader.rankMax)
      case "data_offsets" where offsets == nil:
        offsets = try parser.integers("offset", countMax: 2)
      default:
        throw HeaderFlaw(
          .malformed,
          "tensor \(quoted(name)) has the key \(quoted(key)), "
            + "expected dtype, shape and data_offsets, once each")
      }
    }
    guard let storedType, let shape, let offsets, offsets.count == 2 else {
      throw HeaderFlaw(
        .malformed, "tensor \(quoted(name)) lacks dtype, shape or the two data_offsets")
    }
    return SafetensorsHeader.Tensor(
      name: name, storedType: storedType, shape: shape, begin: offsets[0], end: offsets[1])
  }

  private mutating func integers(
    _ meaning: String, countMax: Int
  ) throws(HeaderFlaw) -> [Int] {
    try scanner.expect("[")
    var values: [Int] = []
    if scanner.skip("]") { return values }
    repeat {
      if values.count == countMax {
        throw HeaderFlaw(
          .unsupported,
          "the header's list at byte \(scanner.position) has over \(countMax) \(meaning)s")
      }
      values.append(try scanner.integer(meaning))
    } while scanner.skip(",")
    try scanner.expect("]")
    return values
  }

  private mutating func string(_ meaning: String) throws(HeaderFlaw) -> String {
    try scanner.expect("\"")
    let start = scanner.position
    var text: [UInt8] = []
    while let byte = scanner.next, byte != UInt8(ascii: "\"") {
      if byte < 0x20 { throw scanner.unexpected("\(meaning) without control characters") }
      scanner.advance()
      if byte == UInt8(ascii: "\\") {
        try escape(&text)
      } else {
        text.append(byte)
      }
    }
    if scanner.isAtEnd { throw scanner.unexpected("the closing '\"' of \(meaning)") }
    scanner.advance()
    guard let string = String(validating: text, as: UTF8.self) else {
      throw HeaderFlaw(.malformed, "\(meaning) at the header's byte \(start) is not UTF-8")
    }
    return string
  }

  /// What follows a backslash, as UTF-8.
  private mutating func escape(_ text: inout [UInt8]) throws(HeaderFlaw) {
    let plain: [UInt8: UInt8] = [
      0x22: 0x22, 0x5C: 0x5C, 0x2F: 0x2F, 0x62: 0x08, 0x66: 0x0C, 0x6E: 0x0A, 0x72: 0x0D,
      0x74: 0x09,
    ]
    guard let byte = scanner.next else { throw scanner.unexpected("an escape") }
    if let character = plain[byte] {
      scanner.advance()
      text.append(character)
      return
    }
    guard byte == UInt8(ascii: "u") else { throw scanner.unexpected("an escape of JSON") }
    let start = scanner.position
    scanner.advance()
    var units = [try hexadecimal()]
    if UTF16.isLeadSurrogate(units[0]), scanner.next == UInt8(ascii: "\\") {
      scanner.advance()
      guard scanner.next == UInt8(ascii: "u") else { throw scanner.unexpected("a low surrogate") }
      scanner.advance()
      units.append(try hexadecimal())
    }
    guard let decoded = String(validating: units, as: UTF16.self) else {
      throw HeaderFlaw(.malformed, "the escape at the header's byte \(start) is no character")
    }
    text.append(contentsOf: decoded.utf8)
  }

  private mutating func hexadecimal() throws(HeaderFlaw) -> UInt16 {
    var value: UInt16 = 0
    for _ in 0..<4 {
      guard let byte = scanner.next, let digit = Character(Unicode.Scalar(byte)).hexDigitValue
      else { throw scanner.unexpected("a hexadecimal digit") }
      scanner.advance()
      value = value << 4 | UInt16(digit)
    }
    return value
  }
}

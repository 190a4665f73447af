/// A position in a header's bytes, with what both header languages share. The bytes are an array:
/// its bounds checks stay in release builds.
struct HeaderScanner {
  let bytes: [UInt8]
  private(set) var position = 0

  init(_ bytes: some Sequence<UInt8>) { self.bytes = Array(bytes) }

  var isAtEnd: Bool { position == bytes.count }

  /// The byte at the position, nil at the end.
  var next: UInt8? { position < bytes.count ? bytes[position] : nil }

  mutating func advance() { position += 1 }

  mutating func skipSpace() {
    while let byte = next, byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D {
      advance()
    }
  }

  /// Steps over `byte` when it comes next, after space.
  mutating func skip(_ byte: Unicode.Scalar) -> Bool {
    skipSpace()
    guard let found = next, found == UInt8(ascii: byte) else { return false }
    advance()
    return true
  }

  mutating func expect(_ byte: Unicode.Scalar) throws(HeaderFlaw) {
    if !skip(byte) { throw unexpected("'\(byte)'") }
  }

  /// Steps over `word` when it comes next, after space.
  mutating func skip(word: StaticString) -> Bool {
    skipSpace()
    let found = word.withUTF8Buffer { bytes[position...].starts(with: $0) }
    if found { position += word.utf8CodeUnitCount }
    return found
  }

  /// A decimal integer from 0 to 2^63 - 1, without sign or leading zeros.
  mutating func integer(_ meaning: String) throws(HeaderFlaw) -> Int {
    skipSpace()
    let start = position
    var value = 0
    while let byte = next, (0x30...0x39).contains(byte) {
      let (tens, overflow) = value.multipliedReportingOverflow(by: 10)
      let (sum, carry) = tens.addingReportingOverflow(Int(byte) - 0x30)
      if overflow || carry {
        throw HeaderFlaw(.malformed, "the header's \(meaning) at byte \(start) exceeds 2^63 - 1")
      }
      value = sum
      advance()
    }
    if position == start { throw unexpected("\(meaning), an integer of at least 0") }
    if position > start + 1 && bytes[start] == 0x30 {
      throw HeaderFlaw(.malformed, "the header's \(meaning) at byte \(start) has leading zeros")
    }
    return value
  }

  /// The flaw of finding something else than `expected` here.
  func unexpected(_ expected: String) -> HeaderFlaw {
    guard let next else {
      return HeaderFlaw(.malformed, "the header ends at byte \(position), expected \(expected)")
    }
    let found = (0x21...0x7E).contains(next) ? "'\(Unicode.Scalar(next))'" : "byte value \(next)"
    return HeaderFlaw(
      .malformed, "found \(found) at the header's byte \(position), expected \(expected)")
  }
}

import LossdTensor

/// Bytes that protobuf-c handed over as a C string, without the terminating NUL. WireScan has
/// refused strings with a NUL inside, so nothing is cut.
func textBytes(_ text: UnsafePointer<CChar>?) -> UnsafeRawBufferPointer {
  guard let text else { return UnsafeRawBufferPointer(start: nil, count: 0) }
  var count = 0
  while text[count] != 0 { count += 1 }
  return UnsafeRawBufferPointer(start: text, count: count)
}

func textString(_ text: UnsafePointer<CChar>?) -> String {
  String(decoding: textBytes(text), as: UTF8.self)
}

/// A name as an error's text shows it: cut after 80 bytes, control characters as `?` and what else
/// cannot be seen as ``shownText(_:bytesMax:keepsLines:)`` has it, so that a hostile one neither
/// floods a log nor forges a line in it.
public func displayText(_ bytes: UnsafeRawBufferPointer) -> String {
  let limit = 80
  let clean = bytes.prefix(limit).map { $0 < 0x20 || $0 == 0x7F ? UInt8(ascii: "?") : $0 }
  return shownText(String(decoding: clean, as: UTF8.self)) + (bytes.count > limit ? "..." : "")
}

/// What is wrong with bytes that ought to be a proto3 string.
enum TextProblem: Equatable {
  case notUTF8
  /// protobuf-c's strings end at the first NUL, so one inside would silently cut the text.
  case containsNUL
}

/// Checks UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF) without NUL.
func textProblem(_ bytes: UnsafeRawBufferPointer) -> TextProblem? {
  var index = 0
  while index < bytes.count {
    // Eight bytes of ASCII at a time: no high bit, no zero byte.
    while index + 8 <= bytes.count {
      let word = bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self)
      let zeros = (word &- 0x0101_0101_0101_0101) & ~word
      if (word | zeros) & 0x8080_8080_8080_8080 != 0 { break }
      index += 8
    }
    if index == bytes.count { return nil }
    let lead = bytes[index]
    if lead == 0 { return .containsNUL }
    guard let length = sequenceLength(bytes, at: index, lead: lead) else { return .notUTF8 }
    index += length
  }
  return nil
}

/// Bytes of the well-formed sequence at `index`, nil when it is not one (Unicode, table 3-7).
private func sequenceLength(
  _ bytes: UnsafeRawBufferPointer, at index: Int, lead: UInt8
) -> Int? {
  let length: Int
  var second: ClosedRange<UInt8> = 0x80...0xBF
  switch lead {
  case 0x00...0x7F: return 1
  case 0xC2...0xDF: length = 2
  case 0xE0...0xEF:
    length = 3
    if lead == 0xE0 { second = 0xA0...0xBF }
    if lead == 0xED { second = 0x80...0x9F }
  case 0xF0...0xF4:
    length = 4
    if lead == 0xF0 { second = 0x90...0xBF }
    if lead == 0xF4 { second = 0x80...0x8F }
  default: return nil
  }
  guard index + length <= bytes.count, second.contains(bytes[index + 1]) else { return nil }
  for next in (index + 2)..<max(index + 2, index + length) where bytes[next] & 0xC0 != 0x80 {
    return nil
  }
  return length
}

/// A text of whoever wrote it (a client, a daemon, a plugin, a file, a setting) as a terminal or a
/// log may show it: ends of lines as blanks, all other control characters and those that turn the
/// direction of writing as `?`, cut after `bytesMax` bytes. So none forges a line, moves the
/// cursor, or is longer than somebody reads.
/// - Parameter keepsLines: `\n` stays: the text is ours, with others' texts in it.
public func shownText(_ text: String, bytesMax: Int = 8192, keepsLines: Bool = false) -> String {
  var text = text
  let isPlain = text.withUTF8 { bytes in
    bytes.count <= bytesMax
      && bytes.allSatisfy { (0x20..<0x7F).contains($0) || keepsLines && $0 == UInt8(ascii: "\n") }
  }
  if isPlain { return text }
  var shown = String.UnicodeScalarView()
  var bytes = 0
  for scalar in text.unicodeScalars {
    bytes += UTF8.width(scalar)
    if bytes > bytesMax { return String(shown) + "..." }
    shown.append(keepsLines && scalar == "\n" ? scalar : shownScalar(scalar))
  }
  return String(shown)
}

private func shownScalar(_ scalar: Unicode.Scalar) -> Unicode.Scalar {
  switch scalar.value {
  case 0x0A...0x0D, 0x85, 0x2028, 0x2029: " "
  // C0, DEL, C1; marks, embeddings, overrides and isolates of direction (Unicode's annex 9).
  case 0..<0x20, 0x7F...0x9F, 0x061C, 0x200E, 0x200F, 0x202A...0x202E, 0x2066...0x2069: "?"
  default: scalar
  }
}

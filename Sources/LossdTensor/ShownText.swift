/// A text of whoever wrote it (a client, a daemon, a plugin, a file, a setting) as a terminal or a
/// log may show it: ends of lines as blanks, all else that cannot be seen or changes what can, such
/// as control characters and turns of direction, as `\u{1b}`. So it neither forges a line nor moves
/// the cursor.
/// - Parameter bytesMax: The most bytes of the result, before the `...` of one that is cut.
/// - Parameter keepsLines: `\n` stays: the text is ours, with others' texts in it.
public func shownText(_ text: String, bytesMax: Int = 8192, keepsLines: Bool = false) -> String {
  var text = text
  let isPlain = text.withUTF8 { bytes in
    bytes.count <= bytesMax
      && bytes.allSatisfy { (0x20..<0x7F).contains($0) || keepsLines && $0 == UInt8(ascii: "\n") }
  }
  if isPlain { return text }
  let (shown, isCut) = shownScalars(text.unicodeScalars, bytesMax: bytesMax, keepsLines: keepsLines)
  return isCut ? shown + "..." : shown
}

extension StringProtocol {
  /// A foreign text within an error's: as ``shownText(_:bytesMax:keepsLines:)``, of at most 80
  /// characters of Unicode and, where it is longer, with how many bytes it has.
  public var shownBriefly: String {
    let limit = 80
    let text = shownScalars(unicodeScalars.prefix(limit)).text
    return unicodeScalars.dropFirst(limit).isEmpty ? text : text + "... (\(utf8.count) bytes)"
  }

  /// A text made of texts, as one line: as ``shownText(_:bytesMax:keepsLines:)``, but of over 1000
  /// characters the first 700 and the last 300, where the reason mostly stands.
  public var shownLine: String {
    let scalars = unicodeScalars
    guard !scalars.dropFirst(1000).isEmpty else { return shownScalars(scalars).text }
    return shownScalars(scalars.prefix(700)).text + "..." + shownScalars(scalars.suffix(300)).text
  }
}

private func shownScalars(
  _ scalars: some Sequence<Unicode.Scalar>, bytesMax: Int = .max, keepsLines: Bool = false
) -> (text: String, isCut: Bool) {
  var shown = String.UnicodeScalarView()
  var bytes = 0
  for scalar in scalars {
    switch shownScalar(scalar, keepsLines) {
    case .itself(let scalar):
      bytes += UTF8.width(scalar)
      if bytes > bytesMax { return (String(shown), true) }
      shown.append(scalar)
    case .escaped:
      let escape = "\\u{\(String(scalar.value, radix: 16))}".unicodeScalars
      bytes += escape.count
      if bytes > bytesMax { return (String(shown), true) }
      shown.append(contentsOf: escape)
    }
  }
  return (String(shown), false)
}

private enum Shown {
  case itself(Unicode.Scalar)
  case escaped
}

private func shownScalar(_ scalar: Unicode.Scalar, _ keepsLines: Bool) -> Shown {
  switch scalar.value {
  case 0x20..<0x7F: return .itself(scalar)
  case 0x0A where keepsLines: return .itself(scalar)
  case 0x0A...0x0D, 0x85, 0x2028, 0x2029: return .itself(" ")
  default: break
  }
  switch scalar.properties.generalCategory {
  // Format: marks, embeddings, overrides and isolates of direction, and what has no width.
  case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse,
    .unassigned:
    return .escaped
  default: return .itself(scalar)
  }
}

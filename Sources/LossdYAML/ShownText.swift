extension StringProtocol {
  /// A foreign text as an error's text may show it: at most 80 characters of Unicode and, where it
  /// is longer, how many bytes it has; what cannot be seen or changes what can, such as control
  /// characters and directions of writing, as `\u{1b}`. So it neither floods a log, nor forges a
  /// line in it, nor moves a terminal's cursor.
  public var shown: String {
    let limit = 80
    let rest = unicodeScalars.dropFirst(limit)
    let text = escaped(unicodeScalars.prefix(limit))
    return rest.isEmpty ? text : text + "... (\(utf8.count) bytes)"
  }

  /// A text made of texts, as one line: as ``shown``, but of over 1000 characters the first 700
  /// and the last 300, where the reason mostly stands.
  public var shownLine: String {
    let scalars = unicodeScalars
    guard !scalars.dropFirst(1000).isEmpty else { return escaped(scalars[...]) }
    return escaped(scalars.prefix(700)) + "..." + escaped(scalars.suffix(300))
  }
}

private func escaped(_ scalars: some Sequence<Unicode.Scalar>) -> String {
  var text = String.UnicodeScalarView()
  for scalar in scalars {
    switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse,
      .unassigned:
      text.append(contentsOf: "\\u{\(String(scalar.value, radix: 16))}".unicodeScalars)
    default: text.append(scalar)
    }
  }
  return String(text)
}

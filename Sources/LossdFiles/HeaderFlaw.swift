/// What a parser of a header's bytes found wrong; it does not know the file's name.
struct HeaderFlaw: Error, Equatable {
  let kind: FileError.Kind
  let text: String

  init(_ kind: FileError.Kind, _ text: String) {
    self.kind = kind
    self.text = text
  }
}

/// A text from a file as an error may show it: quoted, control characters escaped, not endless.
func quoted(_ text: some StringProtocol) -> String {
  // Characters have no longest length, as any number of marks may follow a letter: code points do.
  let scalars = String(text).unicodeScalars
  let head = String(scalars.prefix(80))
  return head.debugDescription + (head.utf8.count < scalars.count ? "..." : "")
}

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
  text.count > 80 ? String(text.prefix(80)).debugDescription + "..." : String(text).debugDescription
}

/// An address that cannot be one; the text quotes it and says what was expected.
public struct AddressError: Error, Sendable, Equatable, CustomStringConvertible {
  public let text: String

  init(_ text: String) { self.text = text }

  public var description: String { text }
}

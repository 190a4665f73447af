import LossdTensor

/// Bytes that break the protocol itself, so that the whole connection ends. A bad call is a
/// `StatusError` instead.
public struct BadFrame: Error, Sendable, Equatable, CustomStringConvertible {
  /// What was read and what was expected; GOAWAY's text.
  public let reason: String
  /// GOAWAY's code, never `.ok`.
  public let code: StatusCode

  public init(_ reason: String, code: StatusCode = .invalidArgument) {
    self.reason = reason
    self.code = code
  }

  /// For a HELLO, CREDIT, GOAWAY, REGION or RELEASE whose message does not decode.
  public init(_ header: FrameHeader, _ error: StatusError) {
    self.init("\(header.type): \(error.message)")
  }

  public var description: String { reason }
}

// LossdWire: docs/protocol.md's frames and messages to and from bytes, as a state machine that
// never waits. It knows no socket, thread or clock, and no function; protobuf-c stops at its
// border.

/// What a frame is (docs/protocol.md, "Frame types"). Raw values are the wire's.
public enum FrameType: UInt8, Sendable, CaseIterable, CustomStringConvertible {
  case hello = 0x01
  case open = 0x02
  case message = 0x03
  case status = 0x04
  case cancel = 0x05
  case credit = 0x06
  case ping = 0x07
  case goAway = 0x08
  /// Only with the feature `shm`.
  case region = 0x09
  /// Only with the feature `shm`.
  case release = 0x0A

  /// The protocol's name for it: `GOAWAY`.
  public var description: String {
    switch self {
    case .hello: "HELLO"
    case .open: "OPEN"
    case .message: "MESSAGE"
    case .status: "STATUS"
    case .cancel: "CANCEL"
    case .credit: "CREDIT"
    case .ping: "PING"
    case .goAway: "GOAWAY"
    case .region: "REGION"
    case .release: "RELEASE"
    }
  }
}

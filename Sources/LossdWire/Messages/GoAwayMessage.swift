import CLossdProto
import LossdTensor

/// The connection ends: with code 0 after the streams up to `lastStreamID`, with another at once.
public struct GoAwayMessage: Sendable, Equatable {
  /// Higher streams never began; 0 from a client.
  public var lastStreamID: UInt32
  public var status: StatusMessage

  public init(lastStreamID: UInt32, status: StatusMessage) {
    self.lastStreamID = lastStreamID
    self.status = status
  }

  /// A copy out of the message; INVALID_ARGUMENT when it does not decode.
  public init(
    decoding bytes: UnsafeRawBufferPointer, in arena: MessageArena
  ) throws(StatusError) {
    let raw = try arena.decode(lossd__v1__go_away__init, bytes).pointee
    lastStreamID = raw.last_stream_id
    status = raw.status.map { StatusMessage($0.pointee) } ?? StatusMessage(code: 0)
  }

  func build(_ arena: MessageArena) -> UnsafeMutablePointer<Lossd__V1__GoAway> {
    let raw = arena.make(lossd__v1__go_away__init)
    raw.pointee.last_stream_id = lastStreamID
    raw.pointee.status = status.build(arena)
    return raw
  }
}

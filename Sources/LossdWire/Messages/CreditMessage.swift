import CLossdProto
import LossdTensor

/// Permission for more messages on a stream.
public struct CreditMessage: Sendable, Equatable {
  /// At least 1.
  public var messages: UInt32

  public init(messages: UInt32) { self.messages = messages }

  /// INVALID_ARGUMENT when it does not decode or grants nothing (both make a bad frame).
  public init(
    decoding bytes: UnsafeRawBufferPointer, in arena: MessageArena
  ) throws(StatusError) {
    messages = try arena.decode(lossd__v1__credit__init, bytes).pointee.messages
    if messages == 0 {
      throw StatusError(.invalidArgument, "messages is 0, expected at least 1")
    }
  }

  func build(_ arena: MessageArena) -> UnsafeMutablePointer<Lossd__V1__Credit> {
    let raw = arena.make(lossd__v1__credit__init)
    raw.pointee.messages = messages
    return raw
  }
}

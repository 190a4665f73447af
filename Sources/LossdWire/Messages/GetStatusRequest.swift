import CLossdProto
import LossdTensor

/// Asks how the daemon is; nothing in it yet.
public struct GetStatusRequest: Sendable, Equatable {
  public init() {}

  /// INVALID_ARGUMENT when it does not decode.
  public init(
    decoding bytes: UnsafeRawBufferPointer, in arena: MessageArena
  ) throws(StatusError) {
    _ = try arena.decode(lossd__v1__get_status_request__init, bytes)
  }
}

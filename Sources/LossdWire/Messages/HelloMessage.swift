import CLossdProto
import LossdTensor

/// What each side says of itself first. Byte limits are what the sender will receive; 0: none.
public struct HelloMessage: Sendable, Equatable {
  /// Name and version of the sender, for logs.
  public var software: String
  public var maxMessageBytes: UInt32
  public var maxPayloadBytes: UInt64
  /// Calls a client may have open at once; only in the server's HELLO, never 0 there.
  public var maxStreams: UInt32
  /// Request messages that a new stream may send; only in the server's HELLO, never 0 there.
  public var streamCredit: UInt32
  /// Extensions that the sender understands: `shm`.
  public var features: [String]

  public init(
    software: String, maxMessageBytes: UInt32 = 0, maxPayloadBytes: UInt64 = 0,
    maxStreams: UInt32 = 0, streamCredit: UInt32 = 0, features: [String] = []
  ) {
    self.software = software
    self.maxMessageBytes = maxMessageBytes
    self.maxPayloadBytes = maxPayloadBytes
    self.maxStreams = maxStreams
    self.streamCredit = streamCredit
    self.features = features
  }

  /// A copy out of the message; INVALID_ARGUMENT when it does not decode.
  public init(
    decoding bytes: UnsafeRawBufferPointer, in arena: MessageArena
  ) throws(StatusError) {
    let raw = try arena.decode(lossd__v1__hello__init, bytes).pointee
    self.init(
      software: textString(raw.software), maxMessageBytes: raw.max_message_bytes,
      maxPayloadBytes: raw.max_payload_bytes, maxStreams: raw.max_streams,
      streamCredit: raw.stream_credit, features: [])
    for index in 0..<raw.n_features { features.append(textString(raw.features?[index])) }
  }

  func build(_ arena: MessageArena) -> UnsafeMutablePointer<Lossd__V1__Hello> {
    let raw = arena.make(lossd__v1__hello__init)
    raw.pointee.software = arena.text(software)
    raw.pointee.max_message_bytes = maxMessageBytes
    raw.pointee.max_payload_bytes = maxPayloadBytes
    raw.pointee.max_streams = maxStreams
    raw.pointee.stream_credit = streamCredit
    raw.pointee.n_features = features.count
    raw.pointee.features = arena.list(features.count) { arena.text(features[$0]) }
    return raw
  }
}

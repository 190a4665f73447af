import CLossdProto
import LossdTensor

/// How a call ended.
public struct StatusMessage: Sendable, Equatable {
  /// Longer texts are cut when encoded, bytes: they may quote what a client sent.
  public static let maxTextBytes = 4096

  /// gRPC's number; unknown ones are kept.
  public var code: UInt32
  public var message: String
  public var metadata: [Metadatum]

  public init(code: UInt32, message: String = "", metadata: [Metadatum] = []) {
    self.code = code
    self.message = message
    self.metadata = metadata
  }

  public init(_ error: StatusError) {
    self.init(
      code: error.code.rawValue, message: error.message,
      metadata: error.metadata.sorted { $0.key < $1.key }.map {
        Metadatum(key: $0.key, value: [UInt8]($0.value.utf8))
      })
  }

  /// A copy out of the message; INVALID_ARGUMENT when it does not decode.
  public init(
    decoding bytes: UnsafeRawBufferPointer, in arena: MessageArena
  ) throws(StatusError) {
    self.init(try arena.decode(lossd__v1__status__init, bytes).pointee)
  }

  init(_ raw: Lossd__V1__Status) {
    code = raw.code
    message = textString(raw.message)
    metadata = mapList(raw.metadata, raw.n_metadata, Metadatum.init)
  }

  /// The same as an error; a code that gRPC does not have is UNKNOWN.
  public var error: StatusError {
    StatusError(
      StatusCode(rawValue: code) ?? .unknown, message,
      metadata: Dictionary(
        metadata.map { ($0.key, String(decoding: $0.value, as: UTF8.self)) },
        uniquingKeysWith: { $1 }))
  }

  func build(_ arena: MessageArena) -> UnsafeMutablePointer<Lossd__V1__Status> {
    let raw = arena.make(lossd__v1__status__init)
    raw.pointee.code = code
    raw.pointee.message = arena.text(shortText)
    raw.pointee.n_metadata = metadata.count
    raw.pointee.metadata = arena.list(metadata.count) { metadata[$0].build(arena) }
    return raw
  }

  /// The text, cut between two characters where it is too long.
  private var shortText: String {
    if message.utf8.count <= StatusMessage.maxTextBytes { return message }
    var end = message.utf8.index(message.startIndex, offsetBy: StatusMessage.maxTextBytes - 3)
    while String.Index(end, within: message.unicodeScalars) == nil {
      end = message.utf8.index(before: end)
    }
    return message[..<end] + "..."
  }
}

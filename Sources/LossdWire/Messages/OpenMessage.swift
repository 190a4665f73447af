import CLossdProto
import LossdTensor

/// The beginning of a call: a view, valid until its arena is reset.
public struct OpenMessage {
  /// Deadlines beyond this mean this, microseconds.
  public static let maxTimeoutMicroseconds: UInt64 = 1_000_000_000_000_000

  let raw: UnsafePointer<Lossd__V1__Open>

  /// INVALID_ARGUMENT when it does not decode or a metadata key is not gRPC's.
  public init(
    decoding bytes: UnsafeRawBufferPointer, in arena: MessageArena
  ) throws(StatusError) {
    raw = UnsafePointer(try arena.decode(lossd__v1__open__init, bytes))
    for index in 0..<raw.pointee.n_metadata {
      let key = textBytes(raw.pointee.metadata?[index]?.pointee.key)
      if !Metadatum.isValidKey(key) {
        throw StatusError(
          .invalidArgument,
          "OPEN: metadata key \"\(displayText(key))\" is not made of a-z, 0-9, _, - and .")
      }
    }
  }

  /// gRPC path: `/lossd.v1.Evaluator/Evaluate`.
  public var method: UnsafeRawBufferPointer { textBytes(raw.pointee.method) }

  /// Counted from the decoding of OPEN; 0: none. Clamped to 10^15.
  public var timeoutMicroseconds: UInt64 {
    min(raw.pointee.timeout_us, OpenMessage.maxTimeoutMicroseconds)
  }

  /// Response messages that the client will take; 0: no limit.
  public var credit: UInt32 { raw.pointee.credit }

  public var metadataCount: Int { raw.pointee.n_metadata }

  /// The first value of this key; empty: there is none.
  public func value(of key: String) -> UnsafeRawBufferPointer {
    for index in 0..<metadataCount {
      guard let entry = raw.pointee.metadata?[index]?.pointee,
        textBytes(entry.key).elementsEqual(key.utf8)
      else { continue }
      return UnsafeRawBufferPointer(start: entry.value.data, count: entry.value.len)
    }
    return UnsafeRawBufferPointer(start: nil, count: 0)
  }

  /// Copies.
  public var metadata: [Metadatum] {
    mapList(raw.pointee.metadata, raw.pointee.n_metadata, Metadatum.init)
  }
}

extension OpenMessage {
  static func build(
    _ arena: MessageArena, _ method: String, _ timeoutMicroseconds: UInt64, _ credit: UInt32,
    _ metadata: [Metadatum]
  ) -> UnsafeMutablePointer<Lossd__V1__Open> {
    let raw = arena.make(lossd__v1__open__init)
    raw.pointee.method = arena.text(method)
    raw.pointee.timeout_us = timeoutMicroseconds
    raw.pointee.credit = credit
    raw.pointee.n_metadata = metadata.count
    raw.pointee.metadata = arena.list(metadata.count) { metadata[$0].build(arena) }
    return raw
  }
}

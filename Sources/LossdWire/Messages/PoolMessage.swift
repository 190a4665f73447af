import CLossdProto
import LossdTensor

/// The pool of payload buffers.
public struct PoolMessage: Sendable, Equatable {
  public var cachedBytes: UInt64 = 0
  public var hits: UInt64 = 0
  public var misses: UInt64 = 0

  public init() {}
}

extension PoolMessage {
  init(_ raw: Lossd__V1__Pool) {
    cachedBytes = raw.cached_bytes
    hits = raw.hits
    misses = raw.misses
  }

  func build(_ arena: MessageArena) -> UnsafeMutablePointer<Lossd__V1__Pool> {
    let raw = arena.make(lossd__v1__pool__init)
    raw.pointee.cached_bytes = cachedBytes
    raw.pointee.hits = hits
    raw.pointee.misses = misses
    return raw
  }
}

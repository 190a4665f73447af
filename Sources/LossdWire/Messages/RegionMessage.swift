import CLossdProto
import LossdTensor

/// A region of shared memory that a client brings (REGION) or gives back (RELEASE, length 0).
public struct RegionMessage: Sendable, Equatable {
  public var region: UInt64
  /// Bytes.
  public var length: UInt64

  public init(region: UInt64, length: UInt64 = 0) {
    self.region = region
    self.length = length
  }

  /// INVALID_ARGUMENT when it does not decode.
  public init(
    decoding bytes: UnsafeRawBufferPointer, in arena: MessageArena
  ) throws(StatusError) {
    let raw = try arena.decode(lossd__v1__region__init, bytes).pointee
    self.init(region: raw.region, length: raw.length)
  }

  func build(_ arena: MessageArena) -> UnsafeMutablePointer<Lossd__V1__Region> {
    let raw = arena.make(lossd__v1__region__init)
    raw.pointee.region = region
    raw.pointee.length = length
    return raw
  }
}

/// The server's answer to REGION and RELEASE.
public struct RegionResultMessage: Sendable, Equatable {
  public var region: UInt64
  /// Code 0: done.
  public var status: StatusMessage

  public init(region: UInt64, status: StatusMessage = StatusMessage(code: 0)) {
    self.region = region
    self.status = status
  }

  /// INVALID_ARGUMENT when it does not decode.
  public init(
    decoding bytes: UnsafeRawBufferPointer, in arena: MessageArena
  ) throws(StatusError) {
    let raw = try arena.decode(lossd__v1__region_result__init, bytes).pointee
    region = raw.region
    status = raw.status.map { StatusMessage($0.pointee) } ?? StatusMessage(code: 0)
  }

  func build(_ arena: MessageArena) -> UnsafeMutablePointer<Lossd__V1__RegionResult> {
    let raw = arena.make(lossd__v1__region_result__init)
    raw.pointee.region = region
    raw.pointee.status = status.build(arena)
    return raw
  }
}

import CLossdProto
import LossdTensor

/// The limits in force; bytes, microseconds.
public struct LimitsMessage: Sendable, Equatable {
  public var maxMessageBytes: UInt32 = 0
  public var maxPayloadBytes: UInt64 = 0
  /// Calls a connection.
  public var maxStreams: UInt32 = 0
  /// Request messages that a new stream may send.
  public var streamCredit: UInt32 = 0
  public var maxConnections: UInt32 = 0
  /// In flight, a connection.
  public var connectionBytes: UInt64 = 0
  /// In flight, all connections.
  public var totalBytes: UInt64 = 0
  public var helloTimeoutMicroseconds: UInt64 = 0
  /// For a frame that stalls half-way.
  public var frameTimeoutMicroseconds: UInt64 = 0
  /// 0: off.
  public var idleTimeoutMicroseconds: UInt64 = 0
  public var writeTimeoutMicroseconds: UInt64 = 0
  public var starveTimeoutMicroseconds: UInt64 = 0
  public var drainTimeoutMicroseconds: UInt64 = 0
  /// Output queued on a connection beyond which nothing is read from it.
  public var queuedBytes: UInt64 = 0
  /// In flight, all connections of one user.
  public var userBytes: UInt64 = 0
  /// Of one user.
  public var userConnections: UInt32 = 0
  /// Calls of one user.
  public var userStreams: UInt32 = 0
  /// Shared memory, all connections.
  public var regionBytes: UInt64 = 0
  /// Shared memory, one user.
  public var userRegionBytes: UInt64 = 0
  /// Regions of shared memory, all connections.
  public var regions: UInt32 = 0
  /// Regions of shared memory, one user.
  public var userRegions: UInt32 = 0
  /// From a connection's end until the pages of its regions are freed.
  public var regionGraceMicroseconds: UInt64 = 0
  /// Estimated work of one call, time of one core; 0: no limit.
  public var callCostMicroseconds: UInt64 = 0
  /// How long a call waits for memory before it is refused.
  public var waitTimeoutMicroseconds: UInt64 = 0

  public init() {}
}

extension LimitsMessage {
  init(_ raw: Lossd__V1__Limits) {
    maxMessageBytes = raw.max_message_bytes
    maxPayloadBytes = raw.max_payload_bytes
    maxStreams = raw.max_streams
    streamCredit = raw.stream_credit
    maxConnections = raw.max_connections
    connectionBytes = raw.connection_bytes
    totalBytes = raw.total_bytes
    helloTimeoutMicroseconds = raw.hello_timeout_us
    frameTimeoutMicroseconds = raw.frame_timeout_us
    idleTimeoutMicroseconds = raw.idle_timeout_us
    writeTimeoutMicroseconds = raw.write_timeout_us
    starveTimeoutMicroseconds = raw.starve_timeout_us
    drainTimeoutMicroseconds = raw.drain_timeout_us
    queuedBytes = raw.queued_bytes
    userBytes = raw.user_bytes
    userConnections = raw.user_connections
    userStreams = raw.user_streams
    regionBytes = raw.region_bytes
    userRegionBytes = raw.user_region_bytes
    regions = raw.regions
    userRegions = raw.user_regions
    regionGraceMicroseconds = raw.region_grace_us
    callCostMicroseconds = raw.call_cost_us
    waitTimeoutMicroseconds = raw.wait_timeout_us
  }

  func build(_ arena: MessageArena) -> UnsafeMutablePointer<Lossd__V1__Limits> {
    let raw = arena.make(lossd__v1__limits__init)
    raw.pointee.max_message_bytes = maxMessageBytes
    raw.pointee.max_payload_bytes = maxPayloadBytes
    raw.pointee.max_streams = maxStreams
    raw.pointee.stream_credit = streamCredit
    raw.pointee.max_connections = maxConnections
    raw.pointee.connection_bytes = connectionBytes
    raw.pointee.total_bytes = totalBytes
    raw.pointee.hello_timeout_us = helloTimeoutMicroseconds
    raw.pointee.frame_timeout_us = frameTimeoutMicroseconds
    raw.pointee.idle_timeout_us = idleTimeoutMicroseconds
    raw.pointee.write_timeout_us = writeTimeoutMicroseconds
    raw.pointee.starve_timeout_us = starveTimeoutMicroseconds
    raw.pointee.drain_timeout_us = drainTimeoutMicroseconds
    raw.pointee.queued_bytes = queuedBytes
    raw.pointee.user_bytes = userBytes
    raw.pointee.user_connections = userConnections
    raw.pointee.user_streams = userStreams
    raw.pointee.region_bytes = regionBytes
    raw.pointee.user_region_bytes = userRegionBytes
    raw.pointee.regions = regions
    raw.pointee.user_regions = userRegions
    raw.pointee.region_grace_us = regionGraceMicroseconds
    raw.pointee.call_cost_us = callCostMicroseconds
    raw.pointee.wait_timeout_us = waitTimeoutMicroseconds
    return raw
  }
}

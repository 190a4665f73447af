import CLossdProto
import LossdTensor

/// How long one function's calls took, microseconds from the request's last byte to the response
/// queued.
public struct FunctionLatencyMessage: Sendable, Equatable {
  public var function: String = ""
  public var count: UInt64 = 0
  public var p50Microseconds: Double = 0
  public var p90Microseconds: Double = 0
  public var p99Microseconds: Double = 0
  /// The 99.9th percentile.
  public var p999Microseconds: Double = 0
  public var maxMicroseconds: Double = 0

  public init() {}
}

extension FunctionLatencyMessage {
  init(_ raw: Lossd__V1__FunctionLatency) {
    function = textString(raw.function)
    count = raw.count
    p50Microseconds = raw.p50_us
    p90Microseconds = raw.p90_us
    p99Microseconds = raw.p99_us
    p999Microseconds = raw.p999_us
    maxMicroseconds = raw.max_us
  }

  func build(_ arena: MessageArena) -> UnsafeMutablePointer<Lossd__V1__FunctionLatency> {
    let raw = arena.make(lossd__v1__function_latency__init)
    raw.pointee.function = arena.text(function)
    raw.pointee.count = count
    raw.pointee.p50_us = p50Microseconds
    raw.pointee.p90_us = p90Microseconds
    raw.pointee.p99_us = p99Microseconds
    raw.pointee.p999_us = p999Microseconds
    raw.pointee.max_us = maxMicroseconds
    return raw
  }
}

import CLossdProto
import LossdTensor

/// gRPC's health checking: which service is asked for.
public struct HealthCheckRequest: Sendable, Equatable {
  /// A service's full name; empty: the daemon as a whole.
  public var service: String

  /// INVALID_ARGUMENT when it does not decode.
  public init(
    decoding bytes: UnsafeRawBufferPointer, in arena: MessageArena
  ) throws(StatusError) {
    service = textString(
      try arena.decode(grpc__health__v1__health_check_request__init, bytes).pointee.service)
  }
}

/// How a service is, by gRPC's numbers.
public enum ServingStatus: UInt32, Sendable {
  case serving = 1
  case notServing = 2
  case serviceUnknown = 3
}

extension OutputBuffer {
  /// The message alone.
  public func encodeMessage(health status: ServingStatus) {
    defer { scratch.reset() }
    let raw = scratch.make(grpc__health__v1__health_check_response__init)
    raw.pointee.status = Grpc__Health__V1__HealthCheckResponse__ServingStatus(status.rawValue)
    appendMessage(raw)
  }
}
